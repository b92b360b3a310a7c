#!/usr/bin/perl
# The systemd unit and what belongs to it: systemd finds nothing wrong with them, and Postern works under all that
# the unit takes away. There is no systemd here that could start it, so this is done by hand: another user, a tree
# that cannot be written, a /dev and a /proc with next to nothing, and the system calls of the unit only.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Cwd 'abs_path';
use Test::More;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'runs the program in its own way' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $dir = temp_dir();
my $systemd = abs_path(srcdir()) . '/contrib/systemd';
my $built = builddir() . '/contrib/systemd/postern.service';
-e $built or die "$built is missing (make -C " . builddir() . ")\n";

# With a program that is there: the unit names that of an installation.
my $program = abs_path($ENV{POSTERN} // builddir() . '/postern');
my $unit = read_file($built) =~ s{^(ExecStart=)\S+(.*)$}{$1$program$2}mr;
mkdir "$dir/unit";
write_file("$dir/unit/postern.service", $unit);
write_file("$dir/unit/postern.socket", read_file("$systemd/postern.socket"));

# The values of a setting, in their order.
sub setting { my ($name) = @_; return $unit =~ /^\Q$name\E=(.*)$/mg }

sub has_tool { my ($name) = @_; return system("command -v $name >/dev/null 2>&1") == 0 }

# Seconds of 30s, 11min.
sub seconds
{
	my ($number, $word) = $_[0] =~ /^(\d+)(ms|s|m|min|h)?$/ or die "$_[0] is no time";
	my %seconds = (ms => 0.001, s => 1, m => 60, min => 60, h => 3600);

	return $number * $seconds{ $word // 's' };
}

# ---- what systemd says -----------------------------------------------------------------------

SKIP: {
	skip 'needs systemd-analyze', 5 unless has_tool('systemd-analyze');
	is(scalar `systemd-analyze verify --man=no $dir/unit/postern.service 2>&1`, '', 'systemd finds nothing wrong with the unit');
	is($?, 0, 'and says so');
	is(scalar `systemd-analyze verify --man=no $dir/unit/postern.socket $dir/unit/postern.service 2>&1`, '', 'nor with the socket');
	# Others that lie in contrib/, with a program that is there.
	for my $file (glob srcdir() . '/contrib/*/*.service') {
		my ($name) = $file =~ m{([^/]+)$};
		write_file("$dir/unit/$name", read_file($file) =~ s{^(ExecStart=)\S+}{$1/bin/true}mr);
		my $instance = $name =~ s/\@\./\@rx./r;
		symlink $name, "$dir/unit/$instance" if $instance ne $name;
		is(scalar `systemd-analyze verify --man=no $dir/unit/$instance 2>&1`, '', "nor with $name");
	}
	my $rating = `systemd-analyze security --offline=true --no-pager $dir/unit/postern.service 2>&1`;
	my ($exposure) = $rating =~ /Overall exposure level for postern\.service: ([\d.]+)/;
	cmp_ok($exposure // 10, '<', 2, 'its exposure is below 2.0') or diag($rating);
}

my $defaults = `'$program' -T default`;
my %default = $defaults =~ /^#+\s*(drain_timeout|final_timeout)\s+(\S+)/mg;
my ($patience) = setting('TimeoutStopSec');
cmp_ok(seconds($patience), '>=', seconds($default{drain_timeout}) + seconds($default{final_timeout}),
	'a stop is not cut while a back-end may still answer');
is(join(' ', setting('User')), 'postern', 'it never runs as root');
is(join(' ', setting('RestartPreventExitStatus')), 64, 'whatever keeps it from starting may be gone a moment later, but wrong arguments');
is(join(' ', setting('StartLimitIntervalSec')), 0, 'so it is tried for ever');
cmp_ok(seconds(setting('RestartSec')), '>=', 5, 'and not without a pause');

# ---- user and folder -------------------------------------------------------------------------

SKIP: {
	skip 'needs systemd-sysusers and systemd-tmpfiles', 6 unless has_tool('systemd-sysusers') && has_tool('systemd-tmpfiles');
	my $root = "$dir/root";

	mkdir $_, 0755 for $root, "$root/etc", "$root/var", "$root/var/spool";
	is(scalar `systemd-sysusers --root=$root $systemd/sysusers.d/postern.conf 2>&1` =~ s/^Creating .*\n//mgr, '', 'systemd-sysusers takes the user');
	my ($name, undef, $uid, $gid, undef, $home, $shell) = split /:/, (read_file("$root/etc/passwd") // '') =~ s/\n//r;
	is($name, 'postern', 'which is that of the unit');
	like($shell, qr{/nologin$}, 'and cannot log in');
	SKIP: {
		skip 'only root can give folders away', 3 unless is_root();
		is(scalar `systemd-tmpfiles --root=$root --create $systemd/tmpfiles.d/postern.conf 2>&1`, '', 'systemd-tmpfiles takes the folder');
		my ($spool) = $defaults =~ /^#+\s*directory\s+(\S+)/m;
		my @st = stat "$root$spool";
		is(sprintf('%o of %d:%d', $st[2] & 07777, @st[4, 5]), "700 of $uid:$gid", 'which is the spool, for this user alone');
		is(join(' ', setting('ReadWritePaths')), $spool, 'and all that the unit lets it write beside its own folders');
	}
}

# ---- under its restrictions ------------------------------------------------------------------

# The calls of a group, with those of the groups in it.
my %expanded;
sub calls
{
	my ($name) = @_;

	return $name unless $name =~ /^\@/;
	return @{ $expanded{$name} //= [map { calls($_) } grep { $_ ne $name } `systemd-analyze syscall-filter $name` =~ /^\s+(\@?\w[-\w]*)$/mg] };
}

sub allowed_calls
{
	my %allowed = map { $_ => 1 } calls('@default');

	for my $list (setting('SystemCallFilter')) {
		my $deny = $list =~ s/^~//;
		for my $call (map { calls($_) } split ' ', $list) {
			if ($deny) { delete $allowed{$call} } else { $allowed{$call} = 1 }
		}
	}
	return sort keys %allowed;
}

subtest 'under the restrictions of the unit' => sub {
	plan skip_all => 'needs root' unless is_root();
	plan skip_all => 'needs systemd-analyze' unless has_tool('systemd-analyze');
	plan skip_all => 'needs namespaces' if system('unshare -m true 2>/dev/null') != 0;
	plan skip_all => 'sanitizers need more than the unit allows' if `nm -D '$program' 2>/dev/null` =~ /__[at]san_/;

	my $cc = $ENV{CC} // 'cc';
	is(system("$cc -D_GNU_SOURCE -Wall -Wextra -Werror -o $dir/confine @{[ srcdir() ]}/t/lib/confine.c -lseccomp"), 0, 'the filter is built') or return;
	write_file("$dir/calls", join '', map { "$_\n" } allowed_calls());
	# It does filter: by the call, and by arguments.
	is(system("$dir/confine", "$dir/calls", 'perl', '-e', 'exit 7'), 7 << 8, 'a harmless program runs in it');
	is(system("$dir/confine", "$dir/calls", 'perl', '-e', 'chroot "/"; exit 7') & 127, 31, 'chroot kills');
	is(system("$dir/confine", "$dir/calls", 'perl', '-MSocket', '-e', 'exit !(!socket(my $s, 17, SOCK_RAW, 0) && $!{EAFNOSUPPORT})'), 0, 'packet sockets are not to be had');

	my ($uid, $gid) = (getpwnam 'nobody')[2, 3];
	my $sink = SmtpSink->start(caps => ['AUTH PLAIN'], unknown => '235 2.7.0 welcome');
	my $proxy = bless { dir => temp_dir(), owner => $$, addrs => {} }, 'TestProxy';
	my $home = $proxy->dir;
	my $port = 25;
	for (600 .. 699) {
		$port = $_;
		last if IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1);
	}
	mkdir "$home/$_", 0700 for qw(rw rw/spool rw/run rw/inbox credentials);
	write_file("$home/credentials/inner", "sesame\n", 0400);
	chown $uid, $gid, $home, map { "$home/$_" } qw(rw rw/spool rw/run rw/inbox credentials credentials/inner);
	# Something of everything: a port below 1024, a socket for a group, names, helpers, patterns, files, secrets.
	$proxy->write_conf(<<"CONF");
workers 2
spool { directory %d/rw/spool; inline 1K }
pid_file %d/rw/run/pid
dummy slow { wait 1ms; helper yes }
default_chain slow
rule { recipient /^odd[0-9]+@/; chain none }
listener front  { listen 127.0.0.1:$port localhost:0; backend inner }
listener socket { listen unix:%d/rw/run/front; socket_mode 0660; socket_group @{[ scalar getgrgid $gid ]}; backend inbox }
backend inner   { hosts localhost:@{[ $sink->port ]}; tls opportunistic; auth_user gate; auth_plaintext yes; auth_password_file credential:inner }
backend inbox   { maildir %d/rw/inbox }
CONF
	my $mounts = join ' && ', "mount --bind $home/rw $home/rw", 'mount -o remount,ro,bind /', "mount --bind /dev/null $dir/null",
	    "mount --bind /dev/urandom $dir/urandom", 'mount -t tmpfs none /dev', 'touch /dev/null /dev/urandom',
	    "mount --bind $dir/null /dev/null", "mount --bind $dir/urandom /dev/urandom", 'mount -t proc -o subset=pid,hidepid=invisible proc /proc';
	my @capabilities = map { "--$_=-all,+net_bind_service" } qw(inh-caps ambient-caps bounding-set);
	write_file("$dir/$_", '') for qw(null urandom);
	# The log can be written all the same: it is open already.
	local $ENV{CREDENTIALS_DIRECTORY} = "$home/credentials";
	$proxy->{pid} = start_process("$home/log", 'unshare', '-m', 'sh', '-c', "umask 077 && $mounts && exec \"\$@\"", 'sh',
		'setpriv', "--reuid=$uid", "--regid=$gid", '--clear-groups', @capabilities, '--no-new-privs',
		"$dir/confine", "$dir/calls", $proxy->program, '-f', '-c', $proxy->conf_file);
	$proxy->{from} = 0;
	ok(eval { $proxy->wait_listeners; 1 }, 'it starts') or return diag($proxy->log, "ended with wait status ", $proxy->{status} // "none");
	ok($proxy->wait_log(qr/ listen listener=socket /), 'with all listeners');

	my $status = read_file('/proc/' . $proxy->pid . '/status');
	like($status, qr/^Uid:\s+$uid\s+$uid\s/m, 'as a user');
	like($status, qr/^Seccomp:\s+2$/m, 'with few system calls');
	like($status, qr/^CapEff:\s+0+400$/m, 'with one capability');
	my ($engine) = grep { (read_file("/proc/$_/comm") // '') =~ /^postern-engine/ } $proxy->children;
	like(read_file("/proc/$engine/status"), qr/^CapEff:\s+0+$/m, 'which the engine has not');
	my $c = SmtpClient->connect("127.0.0.1:$port");
	is($c->send_message(content => "Subject: x\r\n\r\n" . ('x' x 70 . "\r\n") x 2000), 250,
		'on a port below 1024 a large message passes a helper and a name look-up') or diag($proxy->log);
	is($c->send_message(to => 'odd1@example.org'), 250, 'another one a pattern');
	$c->quit;
	is(SmtpClient->connect("unix:$home/rw/run/front")->send_message, 250, 'on a Unix socket one passes into a maildir') or diag($proxy->log);
	is(scalar(my @new = glob "$home/rw/inbox/new/*"), 1, 'where it lies');
	ok((grep { /^AUTH PLAIN / } $sink->commands), 'the password was handed over');
	kill 'HUP', $proxy->pid;
	is(SmtpClient->connect("127.0.0.1:$port")->send_message, 250, 'it goes on after SIGHUP');
	kill 'USR2', $proxy->pid;
	ok($proxy->wait_log(qr/ handover program=.* ready /s), 'the program on the disk takes its place');
	is(SmtpClient->connect("127.0.0.1:$port")->send_message, 250, 'and mail passes');
	is($proxy->stop, 0, 'it stops as it should');
	unlike($proxy->log, qr/ died |signal=31|runs without|Operation not permitted/, 'and no process was killed for a system call, or did without something');
};

done_testing;
