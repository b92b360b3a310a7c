#!/usr/bin/perl
# A real systemd runs the unit as make install puts it there: start, reload, faults, a new program, stop.
use strict;
use warnings;
use Test::More;
use SmtpClient;
use Systemd;
use TestUtil;

plan skip_all => 'runs the installed program' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP} || $ENV{POSTERN};
plan skip_all => Systemd->unavailable if Systemd->unavailable;
plan skip_all => 'sanitizers need more than the unit allows' if `nm -D '@{[ builddir() ]}/postern' 2>/dev/null` =~ /__[at]san_/;

# ---- installed -------------------------------------------------------------------------------

delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES DESTDIR)};
my ($root, $share) = (temp_dir(), temp_dir());
system("umask 022; make -s -C '@{[ builddir() ]}' install DESTDIR=$root >$share/log 2>&1") == 0
    or die "make install failed:\n" . read_file("$share/log");

# Where it put a file.
sub installed { my ($pattern) = @_; return `find $root -path '$pattern'` =~ s/\A\Q$root\E|\n\z//gr }

my ($unit, $sysusers, $tmpfiles) = map { installed($_) } qw(*/postern.service */sysusers.d/*.conf */tmpfiles.d/*.conf);
plan skip_all => "the unit sees nothing below $1, where this one is installed" if $unit =~ m{^(/tmp|/var/tmp|/root|/home|/run)/};
my ($conf) = read_file("$root$unit") =~ /^ExecStart=\S+ -F -c (\S+)$/m;

my $port = (grep { IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $_, Listen => 1) } 700 .. 799)[0];
my $second = free_port();
my $text = <<"CONF";
log { to /var/log/postern/log }
dummy slow { wait 1ms; helper yes }
default_chain slow
listener front { listen 127.0.0.1:$port; backend inbox }
listener local { listen unix:/run/postern/front; backend inner }
backend inbox  { maildir /var/lib/postern/inbox }
backend inner  { hosts 127.0.0.1:$second; tls opportunistic; auth_user gate; auth_password_file credential:inner.password }
CONF
write_file("$root$conf", $text, 0644);
mkdir "$root/etc", 0755;
write_file("$root/etc/inner.password", "sesame\n", 0600);

my $systemd = Systemd->new(dir => "$root", share => "$share")->boot;
my $addr = "127.0.0.1:$port";

sub runs { my ($command, $name) = @_; my ($status, $said) = $systemd->run($command); is($status, 0, $name // $command) or diag($said, journal()); return }
sub journal { return ($systemd->run('systemctl status postern; cat /var/log/postern/*'))[1] }
sub main_pid { return $systemd->property('postern', 'MainPID') }
sub state { return $systemd->property('postern', 'ActiveState') }
sub passes { my ($name) = @_; my $reply = eval { SmtpClient->connect($addr)->send_message }; is($reply, 250, $name) or diag($@, journal()); return }

# ---- its life --------------------------------------------------------------------------------

subtest 'it starts' => sub {
	runs("systemd-sysusers $sysusers", 'systemd-sysusers makes the user');
	runs("systemd-tmpfiles --create $tmpfiles", 'systemd-tmpfiles makes the folder');
	runs('install -d -o postern -g postern -m 700 /var/lib/postern /var/lib/postern/inbox', 'there is a maildir');
	# The log where we can read it, faults seen sooner, and a password.
	runs("mkdir -p /etc/systemd/system/postern.service.d && printf '[Service]\\nStandardError=append:/var/log/postern/stderr\\nWatchdogSec=5s\\nRestartSec=100ms\\n"
	    . "LoadCredential=inner.password:/etc/inner.password\\n' >/etc/systemd/system/postern.service.d/local.conf && mkdir -p /var/log/postern", 'a drop-in');
	runs("systemctl enable $unit && systemctl start postern", 'systemctl enable and start');
	is(state(), 'active', 'it is active when it says so');
	is($systemd->property('postern', 'StatusText') =~ /configuration/ ? 1 : 0, 1, 'and tells what it does');
	my $pid = main_pid();
	my ($status, $said) = $systemd->run("cat /proc/$pid/status; id -u postern; ls -ld /run/postern /var/spool/postern");
	my ($uid) = $said =~ /^(\d+)$/m;
	like($said, qr/^Uid:\s+$uid\s+$uid\s+$uid\s+$uid$/m, 'it never is root');
	like($said, qr/^NoNewPrivs:\s+1$/m, 'nor becomes it');
	like($said, qr/^Seccomp:\s+2$/m, 'its system calls are filtered');
	passes('a message passes a helper, into a maildir, on a port below 1024');
	is(($systemd->run('ls /var/lib/postern/inbox/new | wc -l'))[1], "1\n", 'where it lies');
};

subtest 'it is reloaded' => sub {
	my $pid = main_pid();

	runs("sed -i 's/wait 1ms/wait 2ms/' $conf && systemctl reload postern", 'systemctl reload');
	ok((wait_until { ($systemd->run('cat /var/log/postern/*'))[1] =~ / reload state=done .*changes=1/ }), 'it has read what was changed') or diag(journal());
	is(main_pid(), $pid, 'by the same process');
	passes('mail goes on');
};

subtest 'its program is replaced' => sub {
	my $pid = main_pid();

	runs('systemctl kill -s USR2 --kill-whom=main postern', 'SIGUSR2');
	ok((wait_until { ($systemd->run('cat /var/log/postern/*'))[1] =~ / handover program=.* ready /s }), 'the program on the disk takes over') or diag(journal());
	is(main_pid(), $pid, 'systemd sees the same process');
	is(state(), 'active', 'that is active');
	passes('mail goes on');
};

subtest 'it fails' => sub {
	my $pid = main_pid();

	runs('systemctl kill -s KILL --kill-whom=main postern', 'its monitor is killed');
	ok((wait_until { state() eq 'active' && main_pid() ne $pid }), 'systemd starts it again');
	passes('mail goes on');
	$pid = main_pid();
	runs('systemctl kill -s STOP --kill-whom=main postern', 'its monitor hangs');
	ok((wait_until { my $p = main_pid(); $p ne $pid && $p ne '0' && state() eq 'active' } 60), 'the watchdog has it started again') or diag(journal());
	passes('mail goes on');
};

subtest 'systemd opens its port' => sub {
	my $third = free_port();

	# As the sample says how.
	write_file("$share/postern.socket", read_file(srcdir() . '/contrib/systemd/postern.socket') =~ s/10025/$third/r);
	runs("cp $share/postern.socket /etc/systemd/system/ && sed -i 's/listen 127.0.0.1:$port/listen fd:front/' $conf", 'socket and configuration');
	runs('systemctl daemon-reload; systemctl stop postern; systemctl enable --now postern.socket postern', 'are used');
	$addr = "127.0.0.1:$third";
	passes('a message passes through its socket');
	runs('systemctl stop postern', 'Postern is stopped');
	my $c = SmtpClient->new($addr);
	is($c->read_reply, 220, 'a client that comes now has it started, and waits meanwhile');
	is($c->send_message, 250, 'its message passes');
	runs('systemctl disable --now postern.socket && rm /etc/systemd/system/postern.socket', 'the socket is taken away');
	runs("sed -i 's/listen fd:front/listen 127.0.0.1:$port/' $conf && systemctl daemon-reload && systemctl restart postern", 'and the address written again');
	$addr = "127.0.0.1:$port";
	passes('a message passes as before');
};

sub starts { my ($name) = @_; ok((wait_until { state() eq 'active' } 20), $name) or diag(journal()); return }

subtest 'it stops, and is tried again while something is in its way' => sub {
	runs('systemctl stop postern', 'systemctl stop');
	is($systemd->property('postern', 'Result'), 'success', 'in order');
	is(state(), 'inactive', 'it is gone');
	runs("printf 'listner x { }\\n' >>$conf", 'a mistake in the configuration');
	isnt(($systemd->run('systemctl start postern'))[0], 0, 'systemctl start fails');
	ok((wait_until { $systemd->property('postern', 'ExecMainStatus') == 78 }), 'with the status of a wrong configuration');
	runs("sed -i '/listner/d' $conf", 'corrected');
	starts('it comes up by itself');
	passes('mail goes on');
	runs('systemctl stop postern', 'systemctl stop');
	my $other = IO::Socket::INET->new(LocalAddr => $addr, Listen => 1, ReuseAddr => 1);
	isnt(($systemd->run('systemctl start postern'))[0], 0, 'it does not start where another program has its port');
	ok((wait_until { $systemd->property('postern', 'NRestarts') >= 2 } 20), 'is tried again and again') or diag(journal());
	close $other;
	starts('and comes up when it can');
	passes('mail goes on');
	like(($systemd->run('cat /var/log/postern/*'))[1], qr/postern\.conf:\d+:1: .*listner.*did you mean/, 'the log says what is wrong');
};

done_testing;
