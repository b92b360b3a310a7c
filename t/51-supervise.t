#!/usr/bin/perl
# What happens to the processes, and what clients notice of it: faults, debuggers, service managers, upgrades.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use File::Copy ();
use HttpClient;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Load;
use SmtpClient;
use SmtpSink;
use StopThread;
use TestProxy;
use TestUtil;
use Time::HiRes qw(time sleep);

plan skip_all => 'starts and kills its own proxies' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $sink = SmtpSink->start;
my $backend = "backend inner { hosts @{[ $sink->addr ]} }\n";
my $front = "listener front { listen 127.0.0.1:0; backend inner }\n";

sub name_of { return (read_file("/proc/$_[0]/comm") // '') =~ s/\n//r }
# The youngest: others may be on their way out.
sub child { my ($proxy, $name) = @_; return wait_until { (grep { name_of($_) eq $name } $proxy->children)[-1] } }
sub engine { return child($_[0], 'postern-engine') }

# The engine that is there instead of this one.
sub successor
{
	my ($proxy, $old) = @_;

	return wait_until { (grep { $_ != $old && name_of($_) eq 'postern-engine' } $proxy->children)[0] } 20;
}

# ---- faults ------------------------------------------------------------------------------------

subtest 'engine and spawner are killed under load: nobody is refused, nothing is lost' => sub {
	my $back = SmtpSink->start;
	my $proxy = TestProxy->start($front . "backend inner { hosts @{[ $back->addr ]} }\n");
	my $load = Load->start($proxy->addr, 3);

	for my $turn (1 .. 3) {
		my $before = $back->count;
		ok((wait_until { $back->count > $before + 10 } 20), 'mail passes');
		my $old = engine($proxy);
		kill 'KILL', $turn == 2 ? child($proxy, 'postern-spawn') : $old;
		ok(successor($proxy, $old), $turn == 2 ? 'after the end of a spawner' : 'after the end of an engine');
	}
	my $before = $back->count;
	ok((wait_until { $back->count > $before + 10 } 20), 'and on it goes');
	my @lines = $load->stop;
	is(join(' ', grep { /^refused/ } @lines), '', 'nobody was refused');
	is_complete($back, @lines);
	is(scalar(() = $proxy->log =~ /^error m died process=spawner/mg), 1, 'the log tells of the spawner');
	is(scalar(() = $proxy->log =~ /^error m died process=engine .*signal=9/mg), 2, 'and of the engines');
};

subtest 'the monitor is killed under load: what was taken has arrived, and the next start goes on' => sub {
	my $back = SmtpSink->start;
	my $port = free_port();
	my $proxy = TestProxy->start("listener front { listen 127.0.0.1:$port; backend inner }\n" .
		"backend inner { hosts @{[ $back->addr ]} }\n");
	my $load = Load->start($proxy->addr, 3);
	my $engine = engine($proxy);

	ok((wait_until { $back->count > 20 } 20), 'mail passes');
	kill 'KILL', $proxy->pid;
	ok((wait_until { !$proxy->is_running } 10), 'it is dead');
	ok((wait_until { !-d "/proc/$engine" } 20), 'the engine finishes by itself');
	my $before = $back->count;
	$proxy->run;
	$proxy->wait_listeners;
	ok((wait_until { $back->count > $before + 10 } 20), 'mail passes again');
	my @lines = $load->stop;
	is_complete($back, @lines);
};

sub is_open { my ($addr) = @_; return defined IO::Socket::INET->new(PeerAddr => $addr) }

subtest 'the monitor is killed while a session goes on: the next start has all addresses all the same' => sub {
	my ($port, $http) = (free_port(), free_port());
	my $proxy = TestProxy->start("workers 2\ndrain_timeout 2m\nhealth { listen 127.0.0.1:$http }\nlistener local { listen unix:%d/spool/in; backend inner }\n" .
		"listener front { listen 127.0.0.1:$port; backend inner }\n$backend");
	my $is_free = sub { return !is_open("127.0.0.1:$port") && !is_open("127.0.0.1:$http") };
	my $next = sub {
		my ($engine, $name) = @_;
		kill 'KILL', $proxy->pid;
		ok((wait_until { !$proxy->is_running } 10), "$name: it is dead");
		ok((wait_until { $is_free->() } 20), 'the addresses are given up');
		ok(-d "/proc/$engine", 'while its engine has a session');
		$proxy->run;
		$proxy->wait_listeners;
		is(SmtpClient->connect("127.0.0.1:$port")->send_message, 250, 'another one takes mail');
		is(SmtpClient->connect('unix:' . $proxy->dir . '/spool/in')->greeting, 220, 'on each of them');
		is(HttpClient::get("127.0.0.1:$http", '/healthz')->{status}, 200, 'and is healthy');
	};
	my $end = sub {
		my ($engine, $held) = @_;
		is($held->rcpt('b@example.org'), 250, 'the session');
		is($held->data, 354, 'from before');
		is($held->command("\r\n."), 250, 'ends well');
		ok((wait_until { !-d "/proc/$engine" } 20), 'and with it that engine');
	};
	my $begin = sub { my $c = SmtpClient->connect("127.0.0.1:$port"); $c->ehlo; $c->mail('a@example.net'); return $c };

	my ($held, $engine) = ($begin->(), engine($proxy));
	$next->($engine, 'with all workers well');
	$end->($engine, $held);
	$engine = engine($proxy);
	$held = $begin->();
	my ($tid) = grep { name_of("$engine/task/$_") eq 'w0' } map { m{(\d+)$} } glob "/proc/$engine/task/*";
	my $stopped = StopThread->new($tid) or return note 'no ptrace here';
	$next->($engine, 'with one that stands still');
	$stopped->go;
	$end->($engine, $held);
};

subtest 'a worker that stands still is noticed by health, and another engine takes over' => sub {
	my $http = free_port();
	my $proxy = TestProxy->start("stuck_timeout 1s\nworkers 2\nhealth { listen 127.0.0.1:$http }\n$front$backend");
	my $old = engine($proxy);
	my @held = map { $proxy->client } 1 .. 6;
	$_->ehlo for @held;
	my ($tid) = grep { name_of("$old/task/$_") eq 'w0' } map { m{(\d+)$} } glob "/proc/$old/task/*";
	my $stopped = StopThread->new($tid) or plan skip_all => 'no ptrace here';
	my $http_says = sub { return HttpClient::get("127.0.0.1:$http", $_[0])->{status} };

	ok($proxy->wait_log(qr/^error a stuck worker=w0 for_ms=\d+$/m), 'the engine says so');
	ok($proxy->wait_log(qr/^error m stuck process=engine what=w0$/m), 'and the monitor hears it');
	ok(my $new = successor($proxy, $old), 'there is another engine');
	ok($proxy->wait_log(qr/^info m engine state="has taken over" pid=$new$/m), 'which takes over');
	ok($proxy->wait_log(qr/^info a stop why="another engine has taken over"$/m), 'when the old one has heard of it');
	is($http_says->('/healthz'), 200, 'that one is healthy');
	is($http_says->('/readyz'), 200, 'and ready');
	my @more = map { $proxy->client } 1 .. 6;
	is(scalar(grep { $_->ehlo == 250 && $_->send_message == 250 } @more), 6, 'whoever comes is served');
	$stopped->go;
	is(scalar(grep { $_->send_message == 250 } @held), 6, 'whoever was there before has one more message taken');
	ok((wait_until { !-d "/proc/$old" } 20), 'then the old one goes');
	is(engine($proxy), $new, 'the new one stays');
};

subtest 'a worker that never moves again is given up with its engine' => sub {
	my $proxy = TestProxy->start("stuck_timeout 1s\ndrain_timeout 1s\nworkers 2\n$front$backend");
	my $old = engine($proxy);
	my ($tid) = grep { name_of("$old/task/$_") eq 'w1' } map { m{(\d+)$} } glob "/proc/$old/task/*";
	my $stopped = StopThread->new($tid) or plan skip_all => 'no ptrace here';

	ok(successor($proxy, $old), 'there is another engine');
	ok($proxy->wait_log(qr/^error a stop err="workers that are stuck are given up" workers=1$/m), 'the old one ends');
	ok((wait_until { !-d "/proc/$old" || read_file("/proc/$old/stat") =~ /\) Z/ } 20), 'in spite of it');
	is($proxy->client->greeting, 220, 'mail can come');
};

subtest 'an engine that stands still as a whole is replaced, too' => sub {
	my $proxy = TestProxy->start("stuck_timeout 1s\n$front$backend");
	my $old = engine($proxy);

	kill 'STOP', $old;
	ok($proxy->wait_log(qr/^error m stuck process=engine what="the whole engine"$/m, 20), 'the monitor notices');
	ok(my $new = successor($proxy, $old), 'there is another engine');
	ok($proxy->wait_log(qr/^info m engine state="has taken over" pid=$new$/m), 'which takes over');
	is($proxy->client->greeting, 220, 'and greets');
	ok((wait_until { !-d "/proc/$old" || read_file("/proc/$old/stat") =~ /\) Z/ } 20), 'the old one is woken, and leaves');
};

# ---- a second copy -----------------------------------------------------------------------------

subtest 'a second copy is told what is in its way' => sub {
	my $port = free_port();
	my $proxy = TestProxy->start("listener front { listen 127.0.0.1:$port; backend inner }\n$backend");
	my $dir = $proxy->dir;
	my $start = sub {
		my ($conf) = @_;
		my $file = write_file("$dir/second.conf", (is_root() ? "user nobody\n" : '') . $conf . $backend, 0644);
		my $said = `@{[ $proxy->program ]} -f -c $file 2>&1`;
		return ($? >> 8) . " $said";
	};

	like($start->("listener a { listen 127.0.0.1:$port; backend inner }\nspool { directory $dir/other }\n"),
		qr{^78 postern: listener a: cannot listen on 127\.0\.0\.1:$port: address already in use \(another program listens there}m,
		'the port');
	like($start->("listener a { listen 127.0.0.1:0; backend inner }\nspool { directory $dir/spool }\n"),
		qr{^78 postern: spool directory \Q$dir\E/spool: another postern that runs has it \(each needs one of its own; or is it running already\?\)$}m,
		'the spool');
	is($proxy->client->greeting, 220, 'the first one is not disturbed');
	my $conf = "pid_file %d/spool/pid\nlistener front { listen 127.0.0.1:$port; backend inner }\n$backend";
	$proxy->stop;
	$proxy = TestProxy->start($conf);
	my $said = `@{[ $proxy->program ]} -f -c @{[ $proxy->conf_file ]} 2>&1`;
	is($said, "postern: pid_file @{[ $proxy->dir ]}/spool/pid: another postern that runs has it (process @{[ $proxy->pid ]})\n", 'with a pid file that is the first thing');
	is($? >> 8, 78, 'with the status of a wrong configuration');
	is(read_file($proxy->dir . '/spool/pid'), $proxy->pid . "\n", 'which is left as it is');
};

# ---- another program in its place --------------------------------------------------------------

# A copy of the program that a test may replace.
sub own_program
{
	my ($dir) = @_;

	mkdir "$dir/bin", 0755;
	File::Copy::copy(builddir() . "/$_", "$dir/bin/$_") && chmod 0755, "$dir/bin/$_" or die "$_: $!"
	    for 'postern', 'postern-helper';
	return "$dir/bin/postern";
}

sub replace_program
{
	my ($path, $with) = @_;

	if (defined $with) { write_file("$path.new", $with, 0755) }
	else { File::Copy::copy(builddir() . '/postern', "$path.new"); chmod 0755, "$path.new" }
	return rename "$path.new", $path;
}

subtest 'USR2: the program on the disk takes over in the same process, under load' => sub {
	my $back = SmtpSink->start;
	my $home = temp_dir();
	my $program = own_program($home);
	local $ENV{POSTERN} = $program;
	my $conf = $front . "backend inner { hosts @{[ $back->addr ]} }\npid_file %d/spool/pid\n";
	my $proxy = TestProxy->start($conf);
	my $load = Load->start($proxy->addr, 3);
	my ($held, $idle) = ($proxy->client, $proxy->client);

	$_->ehlo for $held, $idle;
	$held->mail('a@example.net');
	replace_program($program, "#!/bin/sh\nexit 1\n");
	$proxy->signal('USR2');
	ok($proxy->wait_log(qr/^error m handover program=\Q$program\E err="it does not start with this configuration/m),
		'one that does not start is not taken');
	for my $turn (1 .. 2) {
		my $old = engine($proxy);
		replace_program($program);
		my $from = length $proxy->log;
		$proxy->signal('USR2');
		ok((wait_until { substr($proxy->log, $from) =~ /^info m handover program=/m } 30), 'a good one is');
		ok((wait_until { substr($proxy->log, $from) =~ /^info m engine state="has taken over"/m } 30), 'with a new engine');
		ok(successor($proxy, $old), 'which is there');
		ok(wait_until { readlink("/proc/@{[ $proxy->pid ]}/exe") eq $program }, 'the monitor runs the new file');
		my $before = $back->count;
		ok((wait_until { $back->count > $before + 10 } 20), 'mail passes');
	}
	is($idle->send_message, 250, 'a session that said nothing so far has its message taken');
	ok($idle->wait_eof, 'and ends behind it');
	is($held->rcpt('b@example.org'), 250, 'a transaction');
	is($held->data, 354, 'that has begun');
	is($held->command("\r\n."), 250, 'before ends well');
	my @lines = $load->stop;
	is(join(' ', grep { /^refused/ } @lines), '', 'nobody was refused');
	is_complete($back, @lines);
	is(join(' ', grep { /^lost/ } @lines), '', 'no connection was cut');
	is($proxy->reload($conf =~ s/pid_file/drain_timeout 9s\npid_file/r), 'done', 'the successor reloads');
	is((read_file($proxy->dir . '/spool/pid') // '') =~ s/\n//r, $proxy->pid, 'the pid file is still right');
	is($proxy->stop, 0, 'and it stops in good order');
	ok(!-e $proxy->dir . '/spool/pid', 'without its pid file');
};

subtest 'USR2 while the configuration becomes a bad one: mail goes on, and a good one ends the wait' => sub {
	my $back = SmtpSink->start;
	my $home = temp_dir();
	my $program = own_program($home);
	local $ENV{POSTERN} = $program;
	my $proxy = TestProxy->start($front . "backend inner { hosts @{[ $back->addr ]} }\n");
	my ($conf, $old) = ($proxy->conf_file, engine($proxy));
	my $good = read_file($conf);

	# A program that looks good, and spoils the file between the look and the start.
	chmod 0666, $conf;
	rename $program, "$home/bin/real";
	replace_program($program, <<"SCRIPT");
#!/bin/sh
case " \$* " in *" -t "*) ;; *) echo nonsense yes >>'$conf'; echo >'$home/spoilt';; esac
exec '$home/bin/real' "\$@"
SCRIPT
	chmod 0777, "$home";
	$proxy->signal('USR2');
	ok((wait_until { -e "$home/spoilt" } 20), 'the file is spoilt when the successor reads it');
	ok($proxy->wait_log(qr/^error m handover state=waits err=.*unknown option \W+nonsense/m), 'which it says');
	is($proxy->client->send_message, 250, 'mail passes all the same') for 1 .. 3;
	ok($proxy->is_running, 'and nobody has left');
	$proxy->signal('HUP');
	is($proxy->client->send_message, 250, 'also when it is told to look again');
	write_file($conf, $good);
	ok((wait_until { $proxy->log =~ /^info m engine state="has taken over"/m } 20), 'with a good file it takes over');
	ok(successor($proxy, $old), 'with an engine of its own');
	is($proxy->client->send_message, 250, 'by which mail passes');
	is($proxy->stop, 0, 'and it stops in good order');
};

# ---- service managers --------------------------------------------------------------------------

subtest 'a service manager hears what happens' => sub {
	my $dir = temp_dir();
	my $sock = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "$dir/notify");
	my $heard = '';
	my $hears = sub {
		my ($pattern) = @_;
		return wait_until {
			my $rin = '';
			vec($rin, fileno $sock, 1) = 1;
			while (select(my $r = $rin, undef, undef, 0)) { $sock->recv(my $text, 4096); $heard .= "$text\n--\n" }
			$heard =~ $pattern;
		} 20;
	};

	chmod 0777, "$dir/notify";
	my $proxy = TestProxy->start($front . $backend, env => { NOTIFY_SOCKET => "$dir/notify", WATCHDOG_USEC => 2_000_000 });
	ok($hears->(qr/^READY=1\nSTATUS=generation 1 .*\nMAINPID=@{[ $proxy->pid ]}$/m), 'it is ready');
	ok($hears->(qr/^WATCHDOG=1\n(?:.*\n)*WATCHDOG=1$/m), 'it is alive, again and again');
	$heard = '';
	is($proxy->reload("drain_timeout 5s\n$front$backend"), 'done', 'a reload');
	ok($hears->(qr/^RELOADING=1\nMONOTONIC_USEC=\d+\n--\n(?:.*\n)*READY=1\nSTATUS=generation 2/m), 'begins and ends');
	is($proxy->reload("nonsense\n$front$backend"), 'kept', 'one that fails');
	ok($hears->(qr/^STATUS=generation 2 .*\(the last reload failed/m), 'shows');
	my ($spawner, $engine) = (child($proxy, 'postern-spawn'), engine($proxy));
	unlike(read_file("/proc/$_/environ") // '', qr/^(?!.*(?:NOTIFY|WATCHDOG)).*LISTEN/s, 'nothing is passed on') for $engine;
	is($proxy->stop, 0, 'a stop');
	ok($hears->(qr/^STOPPING=1$/m), 'is told');
};

subtest 'a service manager that is impatient hears from us as often as it asks' => sub {
	my $dir = temp_dir();
	my $sock = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "$dir/notify");
	my $count = 0;
	my $hears = sub {
		my $rin = '';
		vec($rin, fileno $sock, 1) = 1;
		while (select(my $r = $rin, undef, undef, 0)) { $sock->recv(my $text, 4096); $count++ if $text eq 'WATCHDOG=1' }
		return $count;
	};

	chmod 0777, "$dir/notify";
	my $proxy = TestProxy->start($front . $backend, env => { NOTIFY_SOCKET => "$dir/notify", WATCHDOG_USEC => 40_000 });
	my $begin = time;
	ok((wait_until { $hears->() >= 50 } 20), 'it hears of it fifty times');
	cmp_ok(time - $begin, '<', 10, 'in a few seconds, and not once in each');
	is($proxy->stop, 0, 'it stops in good order');
};

subtest 'listen fd:NAME takes over sockets that a service manager has opened' => sub {
	my $port = free_port();
	my $proxy = TestProxy->start("listener front { listen fd:smtp; backend inner }\n$backend", no_wait => 1);
	ok((wait_until { !$proxy->is_running } 10), 'without one it does not start');
	like($proxy->log, qr/^postern: listener front: fd:smtp: no socket was handed over to us \(it comes from a systemd \.socket unit with FileDescriptorName=smtp/m,
		'and says where it would come from');

	my $activate = (grep { -x } map { "$_/systemd-socket-activate" } '/usr/bin', '/bin')[0]
	    or return fail('systemd-socket-activate is there (./bootstrap)');
	my $log = $proxy->dir . '/activated';
	my @argv = ($activate, '-l', "127.0.0.1:$port", '--fdname=smtp', $proxy->program, '-f', '-c', $proxy->conf_file);
	my $pid = start_process($log, @argv);
	ok((wait_until { (read_file($log) // '') =~ /Listening on/ } 10), 'the service manager listens');
	my $c = SmtpClient->connect("127.0.0.1:$port", timeout => 20);
	is($c->greeting, 220, 'the first client starts it, and is greeted');
	$c->ehlo;
	is($c->send_message, 250, 'its message passes');
	like(read_file($log), qr/^info m listen listener=front address=127\.0\.0\.1:$port$/m, 'the log tells the address');
	kill 'HUP', $pid;
	ok((wait_until { read_file($log) =~ /^info m reload state=done/m } 20), 'a reload keeps it');
	is(SmtpClient->connect("127.0.0.1:$port")->greeting, 220, 'open');
	is(stop_process($pid, 30), 0, 'it stops in good order');
};

subtest 'listen fd:NUMBER takes over a plain descriptor' => sub {
	my $listening = IO::Socket::INET->new(LocalAddr => '127.0.0.1:0', Listen => 10);
	my $port = $listening->sockport;
	my $conf = "listener front { listen fd:9; backend inner }\n$backend";
	my $proxy = TestProxy->start($conf, no_wait => 1);
	ok((wait_until { !$proxy->is_running } 10), 'one that is not there is an error');
	like($proxy->log, qr/^postern: listener front: fd:9 is not a listening stream socket/m, 'that is told');
	my $log = $proxy->dir . '/plain';
	local $^F = 255;
	open my $kept, '>&', $listening or die;
	my $pid = start_process($log, 'sh', '-c', 'n=$1; shift; eval "exec 9<&$n"; exec "$@"', 'sh', fileno $kept,
		$proxy->program, '-f', '-c', $proxy->conf_file);
	ok((wait_until { (read_file($log) // '') =~ / ready / } 20), 'it starts') or diag read_file($log);
	is(SmtpClient->connect("127.0.0.1:$port")->greeting, 220, 'and serves it');
	is(stop_process($pid, 30), 0, 'it stops in good order');
};

subtest 'a reload binds a port below 1024 though root was given up' => sub {
	plan skip_all => 'only as root' unless is_root();
	my ($low) = grep { IO::Socket::INET->new(LocalAddr => "127.0.0.1:$_", Listen => 1) } 800 .. 899;
	my $proxy = TestProxy->start($front . $backend);

	is($proxy->reload("$front$backend\nlistener low { listen 127.0.0.1:$low; backend inner }\n"), 'done', 'it is done');
	is(SmtpClient->connect("127.0.0.1:$low")->greeting, 220, "port $low answers");
};

done_testing;
