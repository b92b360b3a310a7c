#!/usr/bin/perl
# The life of the processes: start, faults, stop; what each may do and what none leaves behind.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;
use Time::HiRes qw(time sleep);

plan skip_all => 'starts and kills its own proxies' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $sink = SmtpSink->start;
my %daemons;	# a test that dies leaves none behind
END { local $?; kill 'TERM', keys %daemons }
my $to_sink = "backend inner { hosts @{[ $sink->addr ]} }\n";

sub front { my (@more) = @_; return join "\n\t", "listener front {", 'listen 127.0.0.1:0; backend inner', @more, "}\n" }
sub name_of { return (read_file("/proc/$_[0]/comm") // '') =~ s/\n//r }
sub ends { my ($proxy) = @_; return wait_until { not $proxy->is_running } 20 }
sub is_alive { return (read_file("/proc/$_[0]/stat") // ' Z') !~ /\) Z/ && -d "/proc/$_[0]" }
sub child { my ($proxy, $name) = @_; return wait_until { (grep { name_of($_) eq $name } $proxy->children)[0] } }
sub engine { return child($_[0], 'postern-engine') }
sub spawner { return child($_[0], 'postern-spawn') }

# The new one of that name, once it is there.
sub successor
{
	my ($proxy, $name, $old) = @_;

	return wait_until { (grep { $_ != $old && name_of($_) eq $name } $proxy->children)[0] };
}

sub is_refused
{
	my ($addr) = @_;

	return !IO::Socket::INET->new(PeerAddr => $addr, Proto => 'tcp', Timeout => 5);
}

# Starts one that must fail, in the foreground or as a daemon; its status and words.
sub failing
{
	my ($conf, @flags) = @_;
	my $proxy = bless { dir => temp_dir(), owner => $$, addrs => {}, finished => 1 }, 'TestProxy';

	$proxy->write_conf($conf);
	# Without a user it must not be given one: TestProxy means well.
	write_file($proxy->conf_file, $proxy->{conf} =~ s/^user nobody\n//r) if $conf =~ /# no user/;
	my $out = `@{[ $proxy->program ]} @flags -c @{[ $proxy->conf_file ]} 2>&1 </dev/null`;
	return ($? >> 8, $out, $proxy);
}

# A daemon: as a process of its own, with log and pid file in its folder.
sub daemon
{
	my ($conf, %opt) = @_;
	my $proxy = bless { dir => temp_dir(), owner => $$, addrs => {}, finished => 1 }, 'TestProxy';
	my $port = free_port();
	my @wrap = @{ $opt{wrap} // [] };

	$conf =~ s/127\.0\.0\.1:0\b/127.0.0.1:$port/;
	$conf .= "pid_file %d/pid\nlog { to %d/log }\n" unless $opt{bare};
	$proxy->write_conf($conf);
	$proxy->{out} = `@wrap @{[ $proxy->program ]} -c @{[ $proxy->conf_file ]} 2>&1 </dev/null`;
	$proxy->{status} = $? >> 8;
	$proxy->{pid} = (read_file("$proxy->{dir}/pid") // '') =~ /^(\d+)\n\z/ ? $1 : undef;
	$proxy->{first} = "127.0.0.1:$port";
	$daemons{ $proxy->{pid} } = 1 if $proxy->{pid};
	return $proxy;
}

sub daemon_stop
{
	my ($proxy, $how) = @_;
	my $pid = $proxy->{pid} or return 1;

	kill $how // 'TERM', $pid;
	delete $proxy->{pid};	# nobody's child: TestProxy could not wait for it
	my $ended = wait_until { !is_alive($pid) } 20;
	delete $daemons{$pid} if $ended;
	return $ended;
}

# ---- who they are ----------------------------------------------------------------------------

subtest 'three processes, none of them root' => sub {
	my $proxy = TestProxy->start(front() . $to_sink);
	my %pids = (monitor => $proxy->pid, engine => engine($proxy), spawner => spawner($proxy));

	is(scalar $proxy->children, 2, 'the monitor has two children');
	for my $name (sort keys %pids) {
		my $status = read_file("/proc/$pids{$name}/status");

		my ($uids) = $status =~ /^Uid:\s+(.*)$/m;
		my ($groups) = $status =~ /^Groups:\s*(.*?)\s*$/m;
		unlike($uids, qr/\b0\b/, "$name: no user id is root's") if is_root();
		unlike($groups, qr/\b0\b/, "$name: no group is root's") if is_root();
		like($status, qr/^NoNewPrivs:\s+1$/m, "$name: cannot gain rights by exec");
		# The monitor may bind low ports at a reload, and nothing else.
		my $caps = $name eq 'monitor' ? qr/0+400/ : qr/0+/;
		like($status, qr/^CapEff:\s+$caps$/m, "$name: has no capability" . ($name eq 'monitor' && ' but one')) if is_root();
	}
	my @fds = map { readlink } glob "/proc/$pids{spawner}/fd/*";
	is(scalar(grep { /^socket:/ } @fds), 1, 'the spawner has no socket but the one to the engine');
	is($proxy->stop, 0, 'they stop with status 0');
	ok(!(grep { is_alive($_) } values %pids), 'and all of them are gone');
};

subtest 'helpers get their descriptors and no other' => sub {
	my $proxy = TestProxy->start("workers 1\ndummy slow { wait 20s; helper yes }\ndefault_chain slow\n"
		. front() . $to_sink);
	my $c = $proxy->client;

	$c->ehlo;
	$c->mail('a@example.net');
	$c->rcpt('b@example.org');
	$c->data;
	$c->send("\r\n.\r\n");
	my $helper = wait_until { my $s = spawner($proxy); (split ' ', `pgrep -P $s`)[0] };
	ok($helper, 'a helper is at work') or return;
	ok(wait_until { name_of($helper) =~ /helper/ }, 'it runs its own program');
	# Its job's socket and what the job has: never a listener, a session, the log.
	my %fd = map { m{(\d+)$} => readlink $_ } glob "/proc/$helper/fd/*";
	my @inodes = map { /^socket:\[(\d+)\]/ } values %fd;
	my $tcp = read_file('/proc/net/tcp');
	ok(!(grep { $tcp =~ /\s$_\s/ } @inodes), 'none of its sockets is of the network') or diag explain \%fd;
	cmp_ok(scalar keys %fd, '<=', 6, 'and there are few') or diag explain \%fd;
	$c->reset;
};

# ---- starts that fail ------------------------------------------------------------------------

for my $flags ([ '-f' ], []) {
	my $mode = @$flags ? 'in the foreground' : 'as a daemon';

	subtest "a start that fails says why, $mode" => sub {
		my $quiet = @$flags ? '' : "log { to %d/log }\n";
		my $taken = IO::Socket::INET->new(LocalAddr => '127.0.0.1:0', Listen => 1);
		my $port = $taken->sockport;
		my ($status, $out) = failing(front() =~ s/:0/:$port/r . $to_sink . $quiet, @$flags);

		is($out, "postern: listener front: cannot listen on 127.0.0.1:$port: address already in use (another program listens there; ss -ltnp tells which)\n", 'a port that is taken');
		is($status, 78, 'with a status');
		($status, $out) = failing(front() . $to_sink . $quiet . "spool { directory /dev/null }\n", @$flags);
		like($out, qr{^postern: .*spool.*/dev/null is not a folder}m, 'a spool that is no folder');
		is($status, 78, 'with a status');
		($status, $out) = failing(front() . $to_sink . $quiet . "pid_file /dev/null/x\n", @$flags);
		like($out, qr{^postern: pid_file /dev/null/x: Not a directory$}m, 'a pid file that cannot be');
		is($status, 78, 'with a status');
		SKIP: {
			skip 'only root can become another', 6 unless is_root();
			($status, $out) = failing("# no user\n" . front() . $to_sink, @$flags);
			is($out, "postern: refusing to run as root: name a user to become (try user postern)\n", 'root without a user');
			is($status, 78, 'with a status');
			($status, $out) = failing("user nosuchuser\n" . front() . $to_sink . $quiet, @$flags);
			is($out, 'postern: user: there is no user "nosuchuser" '
				. "(try adduser --system --group nosuchuser)\n", 'a user that is not there');
			is($status, 78, 'with a status');
			($status, $out) = failing("user root\n" . front() . $to_sink . $quiet, @$flags);
			is($out, "postern: refusing to run as root: user must be another one (try user postern)\n", 'root as the user');
			is($status, 78, 'with a status');
		}
		my $socket = temp_dir();
		chmod 0777, "$socket";
		($status, $out) = failing("listener a { listen unix:$socket/s 127.0.0.1:$port; backend inner }\n"
			. $to_sink . $quiet, @$flags);
		is($status, 78, 'the second of two listeners');
		ok(!-e "$socket/s", 'then the first one leaves no socket behind');
	};
}

subtest 'an engine that cannot start ends the start' => sub {
	my $proxy = daemon("workers 256\n" . front() . $to_sink, wrap => [ 'prlimit', '--nofile=100:100' ]);

	isnt($proxy->{status}, 0, 'the starter fails');
	like($proxy->{out}, qr/^postern: the engine did not become ready; the log says why$/m, 'and says so');
	like($proxy->log, qr/Too many open files/, 'the log says why');
	ok(!-e $proxy->dir . '/pid', 'no pid file is left');
	ok(is_refused($proxy->addr), 'and nobody listens');
};

subtest 'a start that hangs can be stopped' => sub {
	my $proxy = TestProxy->start(front() . $to_sink, no_wait => 1);
	# Stopped as soon as it is there, and in most runs before it is ready.
	my $engine = wait_until { engine($proxy) };

	kill 'STOP', $engine;
	$proxy->signal('TERM');
	my $at_once = wait_until { !$proxy->is_running } 5;
	kill 'CONT', $engine unless $at_once;
	ok(ends($proxy), 'by SIGTERM');
	ok($at_once || $proxy->log =~ / ready /, 'soon, if it was not ready');
	is($proxy->{status}, 0, 'with status 0, as it was asked to');
	ok(wait_until { !is_alive($engine) }, 'and no engine is left');
};

# ---- the daemon ------------------------------------------------------------------------------

subtest 'a daemon' => sub {
	my $proxy = daemon(front() . $to_sink);
	my $dir = $proxy->dir;

	is($proxy->{status}, 0, 'its starter exits with 0') or diag $proxy->{out};
	is($proxy->{out}, '', 'says nothing, and does not keep the terminal');
	ok($proxy->{pid} && is_alive($proxy->{pid}), 'the pid file names a process') or return;
	is((stat "$dir/pid")[2] & 0777, 0644, 'and is readable for all');
	is($proxy->client->send_message, 250, 'mail passes when the starter has ended');
	is(readlink "/proc/$_/cwd", '/', name_of($_) . ' keeps no folder busy') for $proxy->{pid}, $proxy->children;

	my $other = read_file($proxy->conf_file);
	write_file("$dir/second.conf", $other);
	my $out = `@{[ $proxy->program ]} -c $dir/second.conf 2>&1`;
	is($? >> 8, 78, 'a second copy is refused');
	my $has_it = "postern: pid_file $dir/pid: another postern that runs has it (process $proxy->{pid})\n";
	is($out, $has_it, 'because of the pid file');
	write_file("$dir/second.conf", $other =~ s/127\.0\.0\.1:\d+/127.0.0.1:0/r);
	$out = `@{[ $proxy->program ]} -c $dir/second.conf 2>&1`;
	is($? >> 8, 78, 'on another port, too');
	is($out, $has_it, 'because of it');
	write_file("$dir/second.conf", $other =~ s/^pid_file.*\n//mr);
	like(`@{[ $proxy->program ]} -c $dir/second.conf 2>&1`, qr/^postern: listener front: cannot listen on \S+: address already in use \(another program listens there; ss \-ltnp tells which\)$/m,
		'without one because of the port');
	is(read_file("$dir/pid"), "$proxy->{pid}\n", 'which still names the first');
	is($proxy->client->send_message, 250, 'that goes on');

	for my $signal ('HUP', 'USR1') {
		my $n = $signal eq 'HUP' ? 1 : 2;
		rename "$dir/log", "$dir/log.$n";
		kill $signal, $proxy->{pid};
		ok($proxy->wait_log(qr/ log state=reopened/), "$signal: the log file is opened anew");
		is($proxy->client->send_message(from => "after-$signal\@example.net"), 250, "$signal: mail goes on");
		ok($proxy->wait_log(qr/ msg .*from=<after-$signal\@/), "$signal: it is in the new file");
		unlike(read_file("$dir/log.$n"), qr/after-$signal/, "$signal: and not in the old one");
	}
	my @pids = ($proxy->{pid}, $proxy->children);
	ok(daemon_stop($proxy), 'it stops');
	ok(!(grep { is_alive($_) } @pids), 'with all processes');
	ok(!-e "$dir/pid", 'its pid file goes with it');
	is(join(' ', sort map { s{.*/}{}r } glob "$dir/*"), 'log log.1 log.2 postern.conf second.conf spool',
		'nothing else is left') unless -d "$dir/bin";
	is(join(' ', glob "$dir/spool/*"), '', 'nor in the spool');
};

subtest 'a Unix socket' => sub {
	my $proxy = TestProxy->start("listener front { listen unix:%d/in; backend inner }\n" . $to_sink);
	my $path = $proxy->dir . '/in';

	is($proxy->client->send_message, 250, 'mail passes');
	is((stat $path)[2] & 0777, 0666, 'whoever reaches the folder may connect');
	$proxy->kill_all;
	ok(-S $path, 'a crash leaves it');
	$proxy->restart;
	is($proxy->client->send_message, 250, 'the next start replaces it');
	$proxy->stop;
	ok(!-e $path, 'an orderly stop removes it');
};

# ---- faults of its processes -----------------------------------------------------------------

subtest 'the engine is killed' => sub {
	my $proxy = TestProxy->start(front() . $to_sink);
	my ($old, $old_spawner) = (engine($proxy), spawner($proxy));
	my $c = $proxy->client;

	kill 'KILL', $old;
	my @waiting = map { SmtpClient->new($proxy->addr) } 1 .. 20;
	ok($c->wait_eof, 'its sessions end');
	ok($proxy->wait_log(qr/ died process=engine pid=$old signal=9/), 'the log says who died, and how');
	is(scalar(grep { $_->expect(220) } @waiting), 20, 'who comes meanwhile waits and is served, nobody is refused');
	ok(successor($proxy, 'postern-engine', $old), 'there is a new engine');
	ok(successor($proxy, 'postern-spawn', $old_spawner), 'and a new spawner');
	ok(wait_until { !is_alive($old_spawner) }, 'the old one is gone');
	is($proxy->client->send_message, 250, 'mail passes');
};

subtest 'the spawner is killed' => sub {
	my $proxy = TestProxy->start("dummy slow { wait 10ms; helper yes }\ndefault_chain slow\n" . front() . $to_sink);
	my ($old, $old_engine) = (spawner($proxy), engine($proxy));
	my $c = $proxy->client;

	is($c->send_message, 250, 'a helper did its work');
	$c->mail('a@example.net');
	$c->rcpt('b@example.org');
	$c->data;
	$c->send("Subject: under way\r\n");
	kill 'KILL', $old;
	ok(successor($proxy, 'postern-engine', $old_engine), 'there is a new engine at once');
	ok(successor($proxy, 'postern-spawn', $old), 'and a new spawner');
	is($proxy->client->send_message, 250, 'helpers work again');
	$c->send("\r\n.\r\n");
	is($c->read_reply, 451, 'a message of the old engine that wanted a helper must come again');
	is($c->read_reply, 421, 'and its session ends');
	ok(wait_until { !is_alive($old_engine) }, 'the old engine is gone then');
	is($proxy->stop, 0, 'it stops in order');
};

subtest 'an engine that dies again and again' => sub {
	my $proxy = TestProxy->start(front() . $to_sink);
	$proxy->client->quit; # a first engine that never was ready would end the start
	my $pid = 0;

	for (1 .. 4) {
		$pid = successor($proxy, 'postern-engine', $pid) or last;
		kill 'KILL', $pid;
	}
	ok($proxy->wait_log(qr/ restart in_ms=800$/m), 'is started again after longer and longer waits');
	my @waits = $proxy->log =~ / restart in_ms=(\d+)$/mg;
	is("@waits", '100 200 400 800', 'that double');
	my $client = $proxy->client;
	ok($client, 'and its clients wait meanwhile');
};

subtest 'the monitor is killed' => sub {
	my $proxy = TestProxy->start(front() . $to_sink);
	my @pids = $proxy->children;
	my $c = $proxy->client;

	kill 'KILL', $proxy->pid;
	is($c->read_reply, 421, 'idle sessions get 421');
	ok(wait_until { !grep { is_alive($_) } @pids }, 'engine and spawner end by themselves');
	ok(is_refused($proxy->addr), 'nobody listens any more');
};

# ---- stop ------------------------------------------------------------------------------------

# A client in the middle of a message.
sub begun
{
	my ($proxy, $from) = @_;
	my $c = $proxy->client;

	$c->ehlo;
	$c->mail($from);
	$c->rcpt('b@example.org');
	$c->data;
	$c->send("Subject: begun\r\n\r\nbegun\r\n");
	return $c;
}

for my $how ('TERM to the monitor', 'INT to all, as a terminal does', 'TERM to all, as a service manager does') {
	subtest "$how drains" => sub {
		my $proxy = TestProxy->start(front() . $to_sink);
		my $idle = $proxy->client;
		my $used = $proxy->client;
		is($used->send_message, 250, 'one has sent a message');
		my $mail = $proxy->client;
		$mail->ehlo;
		is($mail->mail('a@example.net'), 250, 'one has an envelope');
		my ($signal, $all) = $how =~ /^(\w+) to (all)?/;
		my $from = lc($signal) . ($all // '') . '@example.net';
		my $c = begun($proxy, $from);
		my @pids = ($proxy->pid, $proxy->children);

		kill $signal, $all ? @pids : $pids[0];
		is($idle->read_reply, 421, 'an idle session gets 421');
		ok($idle->wait_eof, 'and is closed');
		is($used->read_reply, 421, 'so does one between two messages');
		ok(wait_until { is_refused($proxy->addr) }, 'new clients are refused');
		is($mail->rcpt('b@example.org'), 250, 'one with an envelope may go on');
		is($mail->rset, 250, 'until it is over');
		is($mail->read_reply, 421, 'then it gets 421');
		$c->send(".\r\n");
		is($c->read_reply, 250, 'one in the middle of a message may finish');
		is($c->read_reply, 421, 'then it gets 421');
		ok(ends($proxy), 'when all have ended it ends');
		is($proxy->{status}, 0, 'with status 0');
		ok(!(grep { is_alive($_) } @pids), 'with all its processes');
		is(scalar(grep { $_->{mail} =~ /<\Q$from\E>/ } $sink->messages), 1, 'the message has arrived');
	};
}

subtest 'drain_timeout' => sub {
	my $proxy = TestProxy->start("drain_timeout 300ms\n" . front() . $to_sink);
	my $c = begun($proxy, 'cut@example.net');
	my $begin = time;

	$proxy->signal('TERM');
	ok($c->wait_eof, 'cuts a message under way');
	is($c->read_reply, 0, 'which gets no reply');
	ok(ends($proxy), 'then all ends');
	cmp_ok(time - $begin, '>=', 0.29, 'not before its time');
	is(scalar(grep { $_->{mail} =~ /cut\@/ } $sink->messages), 0, 'nothing of the message is delivered');
	ok($proxy->log =~ / msg .*from=<cut\@example\.net>.*verdict=abandoned/, 'the log says what became of it');
};

subtest 'a delivery whose dot has left' => sub {
	my $slow = SmtpSink->start(final => { wait => 'go', reply => '250 2.0.0 Ok: queued as LATE' });
	my $conf = "drain_timeout 200ms\n" . front() . "backend inner { hosts @{[ $slow->addr ]} }\n";
	my $proxy = TestProxy->start($conf);
	my $c = begun($proxy, 'a@example.net');

	$c->send(".\r\n");
	ok($slow->wait_event(qr/ waits go$/m), 'the back-end takes its time');
	$proxy->signal('TERM');
	ok($proxy->wait_log(qr/drain_timeout is over/), 'drain_timeout passes');
	ok($c->is_silent(0.3), 'the session is not cut');
	$slow->release('go');
	my $reply = $c->read_reply;
	is($reply, 250, 'the front gets the answer');
	like($reply->text, qr/LATE/, "which is the back-end's");
	ok(ends($proxy), 'then all ends');
	is($slow->count, 1, 'it was delivered once');

	$slow->restart;
	$proxy = TestProxy->start($conf =~ s/200ms/1h/r);
	$c = begun($proxy, 'b@example.net');
	my @pids = ($proxy->pid, $proxy->children);
	$c->send(".\r\n");
	ok($slow->wait_event(qr/ waits go\n.* waits go$/ms), 'another one waits');
	$proxy->signal('TERM');
	ok($proxy->wait_log(qr/ stop why=/), 'the stop begins');
	ok($proxy->is_running, 'and waits');
	$proxy->signal('TERM');
	ok(ends($proxy), 'a second SIGTERM stops at once');
	is($proxy->{status}, 0, 'with status 0');
	ok($c->wait_eof, 'the front sees the end');
	is($c->read_reply, 0, 'and no reply, so it sends again');
	ok(!(grep { is_alive($_) } @pids), 'no process is left');
};

subtest 'a stop while no engine runs' => sub {
	my $proxy = TestProxy->start(front() . $to_sink);
	$proxy->client->quit; # as above
	my $pid = 0;
	for (1 .. 3) {
		$pid = successor($proxy, 'postern-engine', $pid) or last;
		kill 'KILL', $pid;
	}
	ok($proxy->wait_log(qr/ restart in_ms=400$/m), 'the next one waits to be started');
	is($proxy->stop, 0, 'it ends in order');
};

done_testing;
