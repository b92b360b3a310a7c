#!/usr/bin/perl
# Reload and stop when something is in the way: what is refused leaves nothing behind, and what was repaired counts.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use Certs;
use File::Copy ();
use File::Spec;
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;
use Time::HiRes qw(time sleep);

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $sink = SmtpSink->start;
my $backend = "backend inner { hosts @{[ $sink->addr ]} }\n";

sub front { my (@more) = @_; return join "\n\t", 'listener front {', 'listen 127.0.0.1:0; backend inner', @more, "}\n" }
sub name_of { return (read_file("/proc/$_[0]/comm") // '') =~ s/\n//r }
sub engine { my ($proxy) = @_; return wait_until { (grep { name_of($_) eq 'postern-engine' } $proxy->children)[-1] } }
sub hear
{
	my ($sock) = @_;
	my $heard = '';
	my $rin = '';

	vec($rin, fileno $sock, 1) = 1;
	while (select(my $r = $rin, undef, undef, 0)) { $sock->recv(my $text, 4096); $heard .= "$text\n--\n" }
	return $heard;
}

subtest 'a reload that is refused leaves the lock of the spool where it was' => sub {
	my $proxy = TestProxy->start(front() . $backend, folders => ['other']);
	my $dir = $proxy->dir;
	my $bad = 'tls { certificate %d/none.pem; key %d/none.key }';
	my $second = sub {
		my ($spool) = @_;
		my $file = write_file("$dir/second.conf", (is_root() ? "user nobody\n" : '') . front() . $backend .
			"spool { directory $dir/$spool }\nlog { to $dir/none/log }\n", 0644);
		return scalar `@{[ $proxy->program ]} -F -c $file 2>&1`;
	};

	chmod 0700, "$dir/other";
	is($proxy->reload(front($bad) . $backend . "spool { directory $dir/other }\n"), 'kept', 'with a certificate that is not there');
	is($proxy->reload(front() . $backend . "spool { directory $dir/other }\n"), 'done', 'what is repaired is taken');
	is($proxy->reload(front($bad) . $backend . "spool { directory $dir/spool }\n"), 'kept', 'and refused again');
	my $said = $second->('other');
	is($proxy->client->greeting, 220, 'mail comes');
	like(`flock -n $dir/other true && echo free`, qr/^$/, 'the spool in use is locked');
	like(`flock -n $dir/spool true && echo free`, qr/^free$/, 'the other one is not');
};

subtest 'while no engine can start, a reload brings the configuration with which it can' => sub {
	my $certs = Certs->new;
	my ($cert, $key) = $certs->make('front');
	my $proxy = TestProxy->start(front("tls { certificate $cert; key $key }") . $backend);
	my $old = engine($proxy);

	unlink $cert;
	kill 'KILL', $old;
	ok($proxy->wait_log(qr/^error m died process=engine .*status=/m), 'without its certificate no engine starts');
	is($proxy->reload("nonsense\n" . front() . $backend), 'kept', 'a reload with an error is told');
	is($proxy->reload(front() . $backend), 'done', 'one without that certificate');
	is($proxy->client->greeting, 220, 'is what the next engine begins with');
};

subtest 'another number of workers and another log at once: both processes write there' => sub {
	my $proxy = TestProxy->start("workers 1\n" . front() . $backend, daemon => 1);
	my $two = sub { return read_file($proxy->dir . '/two') // '' };

	$proxy->reload("workers 2\nlog { to %d/two }\npid_file %d/pid\n" . front() . $backend, no_wait => 1);
	ok((wait_until { $two->() =~ / m reload state=done/ }), 'the monitor writes into the new file');
	ok((wait_until { $two->() =~ / a ready workers=2/ }), 'and the new engine, too');
	$proxy->reload("workers 1\nlog { to %d/none/three }\npid_file %d/pid\n" . front() . $backend, no_wait => 1);
	ok((wait_until { $two->() =~ /^\S+ error m reload state=kept /m }), 'a file that cannot be opened is an error');
	like($two->(), qr{none/three: No such file}, 'that is told');
};

subtest 'a log that cannot be opened: the old one stays, in both processes' => sub {
	my $proxy = TestProxy->start(front() . $backend, daemon => 1);

	$proxy->reload("log { to %d/none/two }\npid_file %d/pid\n" . front('max_recipients 1') . $backend, no_wait => 1);
	ok($proxy->wait_log(qr{^\S+ error m reload state=kept err="log: log \S+/none/two: No such file}m), 'it is told');
	my $c = $proxy->client;
	$c->ehlo;
	is($c->send_message(to => [ 'a@example.org', 'b@example.org' ]), 250, 'the rest of it does not count either');
	ok($proxy->wait_log(qr/ msg .*rcpts=2/), 'and the engine goes on writing');
};

subtest 'a daemon that has left its terminal does not begin to log there' => sub {
	my $proxy = TestProxy->start("workers 1\n" . front() . $backend, daemon => 1);
	my $there = "log { to stderr }\npid_file %d/pid\n" . front('max_recipients 1') . $backend;
	my $lost = qr{err=".*stderr is /dev/null; a restart can log there"};

	for my $workers (1, 2) {
		my $from = length $proxy->log;
		$proxy->reload("workers $workers\n$there", no_wait => 1);
		ok((wait_until { substr($proxy->log, $from) =~ /^\S+ error m reload state=kept /m }), "workers $workers: the reload is refused");
		like(substr($proxy->log, $from), $lost, "workers $workers: and told why");
	}
	$proxy->signal('USR2');
	ok($proxy->wait_log(qr{^\S+ error m handover .*$lost}m), 'nor does another program take over');
	my $c = $proxy->client;
	$c->ehlo;
	is($c->send_message(to => [ 'a@example.org', 'b@example.org' ]), 250, 'mail passes as before');
	ok($proxy->wait_log(qr/ msg .*rcpts=2/), 'and the log goes on');
};

subtest 'a stop while a reload is being prepared is one' => sub {
	my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1:0', Listen => 10);
	my @codes;

	for my $turn (1 .. 6) {
		my $proxy = TestProxy->start(front() . $backend);
		$proxy->reload(front() . "backend inner { hosts 127.0.0.1:@{[ $silent->sockport ]} }\n", no_wait => 1);
		sleep 0.003 * $turn;
		push @codes, $proxy->stop;
		unlike($proxy->log, qr/ died /, 'nobody has died') if $turn == 6;
	}
	is_deeply(\@codes, [ (0) x 6 ], 'in good order');
};

# Has a process still to take this signal?
sub is_pending
{
	my ($pid, $signal) = @_;
	my ($mask) = (read_file("/proc/$pid/status") // '') =~ /^ShdPnd:\s+(\S+)$/m;

	return hex($mask // '0') >> ($signal - 1) & 1;
}

subtest 'a second TERM ends what does not answer, too' => sub {
	my $proxy = TestProxy->start(front() . $backend);
	my $engine = engine($proxy);

	kill 'STOP', $engine;
	$proxy->signal('TERM');
	# Two at once would be one signal.
	ok((wait_until { !is_pending($proxy->pid, 15) }), 'it is heard');
	ok($proxy->is_running, 'and an engine that stands still is waited for');
	$proxy->signal('TERM');
	ok((wait_until { !$proxy->is_running } 10), 'not after the second one');
	ok(!kill(0, $engine), 'it is gone');
};

subtest 'an engine that cannot read the files is not asked for ever' => sub {
	plan skip_all => 'no prlimit here' unless grep { -x "$_/prlimit" } split /:/, $ENV{PATH};
	my $proxy = TestProxy->start(front() . $backend);
	my $engine = engine($proxy);
	my ($hard) = read_file("/proc/$engine/limits") =~ /^Max open files\s+\S+\s+(\d+)/m;

	my $limit = sub {
		# Only its own user may, unless one is more than the usual root.
		my $pid = fork // die "fork: $!";
		waitpid($pid, 0), return if $pid;
		my ($uid, $gid) = read_file("/proc/$engine/status") =~ /^Uid:\s+(\d+).*\nGid:\s+(\d+)/m;
		POSIX::setgid($gid);
		POSIX::setuid($uid);
		exec 'prlimit', "--pid=$engine", "--nofile=$_[0]:$hard";
	};

	$limit->(5);
	is($proxy->reload(front('max_recipients 3') . $backend), 'kept', 'it ends');
	like($proxy->log, qr/^error m reload state=kept err="the engine reads something else than the monitor: .*Too many open files/m, 'with the reason');
	$limit->($hard);
	is($proxy->reload, 'done', 'the next one is taken');
};

subtest 'watch_config: the main file may be away for a while' => sub {
	my $conf = "watch_config yes\n" . $backend;
	my $proxy = TestProxy->start($conf . front('max_recipients 1'));
	my $file = $proxy->conf_file;
	my $from = length $proxy->log;
	# A file as young as the start may be read once more.
	my $ends = sub { my ($how) = @_; return wait_until { substr($proxy->log, $from) =~ /^\S+ m reload state=$how /m } 20 };

	rename $file, "$file.off";
	ok($ends->('kept'), 'without it all is kept');
	$from = length $proxy->log;
	rename "$file.off", $file;
	ok($ends->('done'), 'when it is back it is read');
	$from = length $proxy->log;
	$proxy->write_conf($conf . front('max_recipients 1') . "include %d/more.conf\n");
	ok($ends->('kept'), 'so is a file that is included and not there');
	$from = length $proxy->log;
	write_file($proxy->dir . '/more.conf', "# nothing\n", 0644);
	ok($ends->('done'), 'once it has come');
};

subtest 'a daemon finds a relative configuration again, and watches it' => sub {
	my $proxy = TestProxy->start("watch_config yes\n" . front('max_recipients 1') . $backend);
	my $dir = $proxy->dir;
	is($proxy->stop, 0, 'a folder is prepared');
	my $conf = read_file($proxy->conf_file) . "pid_file $dir/pid\nlog { to $dir/spool/log }\n";
	my $log = sub { return read_file("$dir/spool/log") // '' };

	symlink 'real.conf', "$dir/relative.conf";
	write_file("$dir/real.conf", $conf, 0644);
	my $status = system "cd $dir && @{[ File::Spec->rel2abs($proxy->program) ]} -c relative.conf";
	is($status, 0, 'it starts');
	my $pid = (read_file("$dir/pid") // '') =~ s/\n//r;
	write_file("$dir/next.conf", $conf =~ s/max_recipients 1/max_recipients 2/r, 0644);
	symlink 'next.conf', "$dir/link";
	rename "$dir/link", "$dir/relative.conf";
	ok((wait_until { $log->() =~ / m changed of="listener front" option=max_recipients was=1 now=2/ }), 'a change of it, of a link, too, is seen')
	    or diag $log->();
	kill 'TERM', $pid;
	ok((wait_until { !kill 0, $pid } 20), 'it stops');
};

subtest 'an address that is in the way of itself is not blamed on others' => sub {
	my $port = free_port();
	my $conf = sub { return "listener front { listen $_[0]:$port; backend inner; clients 127.0.0.0/8 }\n$backend" };
	my $proxy = TestProxy->start($conf->('127.0.0.1'));

	is($proxy->reload($conf->('0.0.0.0')), 'kept', 'a wider address of the same port');
	like($proxy->log, qr/^error m reload state=kept err="listener front: cannot listen on 0\.0\.0\.0:$port: our own socket on 127\.0\.0\.1:$port is in the way \(/m,
		'is told as what it is');
	is($proxy->client->greeting, 220, 'the old one answers');
};

subtest 'a socket that stays gets its new mode, or it is said that it does not' => sub {
	my $conf = sub { return "listener front { listen unix:%d/spool/in; socket_mode $_[0]; backend inner }\n$backend" };
	my $proxy = TestProxy->start($conf->('0660'));
	my $socket = $proxy->dir . '/spool/in';
	my $mode = sub { return sprintf '%04o', (stat $socket)[2] & 07777 };

	is($mode->(), '0660', 'it begins so');
	is($proxy->reload($conf->('0600')), 'done', 'another one');
	if (is_root()) {
		like($proxy->log, qr{^warn m reload state="this option needs a restart" option=socket_mode of="listener front"$}m, 'which only root could give is told');
	} else {
		is($mode->(), '0600', 'it has it');
	}
	is(SmtpClient->connect("unix:$socket")->greeting, 220, 'it is open');
};

subtest 'many listeners come at once' => sub {
	my $many = join '', map { "listener l$_ { listen 127.0.0.1:0; backend inner }\n" } 1 .. 400;
	my $proxy = TestProxy->start(front() . $backend);

	is($proxy->reload(front() . $many . $backend), 'done', 'four hundred');
	is($proxy->reload(front() . $backend), 'done', 'and go');
};

subtest 'a service manager hears that another engine has taken over, and nothing of a reload that a stop overtakes' => sub {
	my $dir = temp_dir();
	my $sock = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "$dir/notify");
	chmod 0777, "$dir/notify";
	my $proxy = TestProxy->start(front() . $backend, env => { NOTIFY_SOCKET => "$dir/notify" });
	my $heard = '';

	kill 'KILL', grep { name_of($_) eq 'postern-spawn' } $proxy->children;
	ok((wait_until { $heard .= hear($sock); $heard =~ /^STATUS=generation 1 .*taken over/m } 20), 'it hears of the other engine');
	$proxy->reload(front('max_recipients 4') . $backend, no_wait => 1);
	$proxy->signal('TERM');
	ok((wait_until { !$proxy->is_running } 20), 'a stop');
	$heard .= hear($sock);
	unlike($heard =~ s/.*STOPPING=1//sr, qr/READY/, 'is the last that is said');
};

# ---- another program -----------------------------------------------------------------------------

sub own_program
{
	my ($dir) = @_;

	mkdir "$dir/bin", 0755;
	File::Copy::copy(builddir() . "/$_", "$dir/bin/$_") && chmod 0755, "$dir/bin/$_" or die "$_: $!"
	    for 'postern', 'postern-helper';
	return "$dir/bin/postern";
}

subtest 'USR2: what only root could make is there already, and no reason against it' => sub {
	plan skip_all => 'only as root' unless is_root();
	my $home = temp_dir();
	chmod 0755, $home;
	mkdir "$home/run", 0755;
	local $ENV{POSTERN} = own_program($home);
	my $proxy = TestProxy->start(front() . "listener local { listen unix:$home/run/in; backend inner }\npid_file $home/run/pid\n$backend");

	$proxy->signal('USR2');
	ok($proxy->wait_log(qr/^info m engine state="has taken over"/m, 30), 'the program takes over') or diag $proxy->log;
	is((read_file("$home/run/pid") // '') =~ s/\n//r, $proxy->pid, 'the pid file');
	is(SmtpClient->connect("unix:$home/run/in")->greeting, 220, 'and the socket are the same');
};

subtest 'USR2: a configuration that is broken while the program looks at it is no reason to end' => sub {
	my $home = temp_dir();
	chmod 0755, $home;
	local $ENV{POSTERN} = my $program = own_program($home);
	my $proxy = TestProxy->start(front() . $backend);
	my $file = $proxy->conf_file;

	write_file("$program.new", "#!/bin/sh\nmv $file.bad $file\nexit 0\n", 0755);
	write_file("$file.bad", "nonsense\n", 0644);
	rename "$program.new", $program;
	$proxy->signal('USR2');
	ok($proxy->wait_log(qr/^error m handover program=\Q$program\E err="it does not start with this configuration/m), 'it is told');
	is($proxy->client->greeting, 220, 'and the one that runs goes on');
};

# The program that takes over finds something in its way: the engine from before goes on until that is gone.
sub waits_for { my ($proxy, $what) = @_; return $proxy->wait_log(qr/^(?:\S+ )?error m handover state=waits err="$what/m, 30) }
sub times_told { return scalar(() = $_[0]->log =~ /error m handover state=waits /g) }
sub takes_over { my ($proxy) = @_; return $proxy->wait_log(qr/ m engine state="has taken over"/, 30) }

subtest 'USR2: a successor that cannot begin waits, and the engine from before carries the mail' => sub {
	my $home = temp_dir();
	chmod 0755, $home;
	local $ENV{POSTERN} = own_program($home);
	my $proxy = TestProxy->start(front() . $backend, folders => ['other']);
	my $dir = $proxy->dir;
	my $old = engine($proxy);
	my $c = $proxy->client;

	chmod 0700, "$dir/other";
	$c->ehlo;
	$c->mail('a@example.net');
	$c->rcpt('b@example.org');
	is($c->data, 354, 'a message is under way');
	open my $lock, '<', "$dir/other" or die;
	flock $lock, 2;
	$proxy->write_conf(front() . $backend . "spool { directory $dir/other }\n");
	$proxy->signal('USR2');
	ok(waits_for($proxy, 'spool directory \S+: another postern'), 'the successor finds its spool locked') or diag $proxy->log;
	is($c->command("Subject: x\r\n\r\nx\r\n."), 250, 'the message is taken all the same');
	is($c->send_message, 250, 'and another one in that session');
	is($proxy->client->send_message, 250, 'and in a new one');
	like(`flock -n $dir/spool true && echo free`, qr/^$/, 'the spool in use stays locked');
	$proxy->signal('HUP');
	ok((wait_until { times_told($proxy) == 2 } 20), 'asked to look again it says so again');
	$proxy->write_conf("nonsense\n" . front() . $backend);
	ok(waits_for($proxy, '[^"]*unknown option \W+nonsense'), 'so it does when it waits for something else') or diag $proxy->log;
	$proxy->write_conf(front() . $backend . "spool { directory $dir/other }\n");
	ok((wait_until { $proxy->log =~ /.* handover state=waits err="(\w+)/s && $1 eq 'spool' } 20), 'and again') or diag $proxy->log;
	my $told = times_told($proxy);
	close $lock;
	ok(takes_over($proxy), 'when the lock is gone it takes over') or diag $proxy->log;
	is(times_told($proxy), $told, 'with no more words about it');
	is($c->send_message, 250, 'who was there before has one more message taken');
	ok((wait_until { !kill 0, $old } 20), 'the old engine has left');
	like(`flock -n $dir/other true && echo free`, qr/^$/, 'the new spool is locked');
	like(`flock -n $dir/spool true && echo free`, qr/^free$/, 'and the one before is not');
	is($proxy->client->send_message, 250, 'mail passes');
	is($proxy->stop, 0, 'and it stops in good order');
};

subtest 'USR2: a port that another program has, for a daemon' => sub {
	my $home = temp_dir();
	chmod 0755, $home;
	local $ENV{POSTERN} = own_program($home);
	my $other = IO::Socket::INET->new(LocalAddr => '127.0.0.1:0', Listen => 1);
	my ($port, $more) = ($other->sockport, free_port());
	my $proxy = TestProxy->start(front() . $backend, daemon => 1);
	my $log = "log { to %d/log }\npid_file %d/pid\n";

	$proxy->write_conf("listener more { listen 127.0.0.1:$more; backend inner }\n" . front() . $backend . $log .
		"health { listen 127.0.0.1:$port }\n");
	$proxy->signal('USR2');
	ok(waits_for($proxy, "health: cannot listen on 127.0.0.1:$port: address already in use"), 'it is told in the log file') or diag $proxy->log;
	ok(!IO::Socket::INET->new(PeerAddr => "127.0.0.1:$more"), 'no socket is left open that nobody serves');
	is($proxy->client->send_message, 250, 'mail goes on');
	my $old = engine($proxy);
	kill 'KILL', $old;
	ok($proxy->wait_log(qr/ error m died process=engine .*signal=9/), 'an engine that dies now is missed');
	my $c = SmtpClient->new($proxy->addr, timeout => 30);
	close $other;
	is($c->read_reply, 220, 'a client waits until there is another one');
	is($c->ehlo, 250, 'which serves it');
	is($c->send_message, 250, 'in full');
	is(SmtpClient->connect("127.0.0.1:$more")->greeting, 220, 'on the new address, too');
	unlike($proxy->log, qr/ m restart /, 'none was tried before its time');
	is($proxy->stop, 0, 'it stops in good order');
};

subtest 'USR2: who waits to begin makes way for another program' => sub {
	my $home = temp_dir();
	chmod 0755, $home;
	local $ENV{POSTERN} = my $program = own_program($home);
	my $other = IO::Socket::INET->new(LocalAddr => '127.0.0.1:0', Listen => 1);
	my $proxy = TestProxy->start(front() . $backend, daemon => 1);
	my $handed = sub { my ($n) = @_; return wait_until { $n == (() = $proxy->log =~ / info m handover program=\Q$program\E version=/g) } };

	$proxy->write_conf(front() . $backend . "log { to %d/log }\npid_file %d/pid\nhealth { listen 127.0.0.1:@{[ $other->sockport ]} }\n");
	$proxy->signal('USR2');
	ok(waits_for($proxy, 'health: cannot listen'), 'a program waits') or diag $proxy->log;
	File::Copy::copy($program, "$program.new") && chmod(0755, "$program.new") && rename("$program.new", $program) or die "$program: $!";
	$proxy->signal('USR2');
	ok($handed->(2), 'another one is installed, and takes its place') or diag $proxy->log;
	ok((wait_until { times_told($proxy) == 2 }), 'to wait as well');
	is($proxy->client->send_message, 250, 'mail goes on');
	close $other;
	ok(takes_over($proxy), 'it begins when it can');
	$proxy->signal('USR2');
	ok($handed->(3), 'and makes way for the next one') or diag $proxy->log;
	ok((wait_until { 2 == (() = $proxy->log =~ / m engine state="has taken over"/g) }), 'which takes over');
	is($proxy->client->send_message, 250, 'and mail goes on');
	is($proxy->stop, 0, 'it stops in good order');
};

subtest 'USR2: who waits to begin still tells the service manager that it lives, and can be stopped' => sub {
	my ($home, $dir) = (temp_dir(), temp_dir());
	chmod 0755, $home, $dir;
	local $ENV{POSTERN} = own_program($home);
	my $sock = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "$dir/notify");
	chmod 0777, "$dir/notify";
	my $other = IO::Socket::INET->new(LocalAddr => '127.0.0.1:0', Listen => 1);
	my $proxy = TestProxy->start(front() . $backend, env => { NOTIFY_SOCKET => "$dir/notify", WATCHDOG_USEC => 2_000_000 });
	my $c = $proxy->client;
	my $heard = '';

	$c->ehlo;
	$c->mail('a@example.net');
	$proxy->write_conf(front() . $backend . "health { listen 127.0.0.1:@{[ $other->sockport ]} }\n");
	$proxy->signal('USR2');
	ok((wait_until { $heard .= hear($sock); $heard =~ /^READY=1\nSTATUS=.*engine from before.*\nMAINPID=@{[ $proxy->pid ]}$/m } 30), 'it is told what goes on');
	$heard = '';
	ok((wait_until { $heard .= hear($sock); (() = $heard =~ /WATCHDOG=1/g) > 2 } 30), 'and again and again that all is well');
	$proxy->signal('HUP');
	ok((wait_until { $heard .= hear($sock); $heard =~ /^RELOADING=1\n(?:.*\n)*READY=1\nSTATUS=.*engine from before/m } 30), 'a reload begins and ends');
	$proxy->signal('TERM');
	ok((wait_until { $heard .= hear($sock); $heard =~ /STOPPING=1/ } 20), 'a stop is told');
	is($c->rcpt('b@example.org'), 250, 'a transaction');
	ok($proxy->is_running, 'is waited for');
	is($c->data, 354, 'and may');
	is($c->command("\r\n."), 250, 'come to its end');
	ok($c->wait_eof, 'then its session ends');
	ok((wait_until { !$proxy->is_running } 20), 'and the program');
	is($proxy->stop, 0, 'in good order');
	unlike($heard =~ s/.*STOPPING=1//sr, qr/READY/, 'nothing else was said behind that');
};

done_testing;
