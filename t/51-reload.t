#!/usr/bin/perl
# Reload: what changes, when it counts, and what it never does to a mail under way.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use Certs;
use IO::Socket::INET;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;
use Time::HiRes qw(time sleep);

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $sink = SmtpSink->start;

sub backend { my ($name, $to, @more) = @_; return "backend $name { hosts @{[ $to->addr ]}; @more }\n" }
sub front { my (@more) = @_; return join "\n\t", 'listener front {', 'listen 127.0.0.1:0; backend inner', @more, "}\n" }
sub engine { return (grep { (read_file("/proc/$_/comm") // '') =~ /engine/ } $_[0]->children)[0] }
sub fds { my ($pid) = @_; return scalar(() = glob "/proc/$pid/fd/*") }
sub is_refused { return !IO::Socket::INET->new(PeerAddr => $_[0], Timeout => 5) }

subtest 'a session goes on with the newest configuration at MAIL, and what EHLO said holds until the next' => sub {
	my $proxy = TestProxy->start(front('max_recipients 2', 'max_message 1M') . backend('inner', $sink));
	my $c = $proxy->client;

	$c->ehlo;
	is($c->mail('a@example.net'), 250, 'a transaction begins');
	is($proxy->reload(front('max_recipients 1', 'max_message 2M', 'hostname other.example') . backend('inner', $sink)),
		'done', 'a reload in the middle of it');
	is($c->rcpt('1@example.org'), 250, 'the transaction');
	is($c->rcpt('2@example.org'), 250, 'goes by the old one');
	is($c->data, 354, 'up to');
	is($c->command("\r\n."), 250, 'its end');
	is($c->mail('a@example.net'), 250, 'the next one');
	is($c->rcpt('1@example.org'), 250, 'has');
	is($c->rcpt('2@example.org'), 452, 'the new limit');
	$c->rset;
	ok($c->has('SIZE 1048576'), 'the old SIZE was offered');
	$c->ehlo;
	ok($c->has('SIZE 2097152'), 'after EHLO it is the new one');
	like($proxy->log, qr/^info m changed of="listener front" option=max_recipients was=2 now=1$/m, 'the log tells');
	like($proxy->log, qr/^info m changed of="listener front" option=hostname now=other\.example$/m, 'each change');
	like($proxy->log, qr/^info m reload state=done generation=2 changes=3$/m, 'and how many');
};

subtest 'a configuration with an error changes nothing and says where' => sub {
	my $good = front('max_recipients 1') . backend('inner', $sink);
	my $proxy = TestProxy->start($good);
	my $c = $proxy->client;
	my $file = $proxy->conf_file;
	my $line = () = read_file($file) =~ /^(?:user.*\n)/mg;

	$c->ehlo;
	is($proxy->reload("budgett 30s\n" . front('max_recipients x') . backend('inner', $sink)), 'kept', 'it is kept');
	ok($proxy->wait_log(qr/^error m reload state=kept err="\Q$file\E:@{[ $line + 1 ]}:1: unknown .*budgett/m), 'the first');
	ok($proxy->wait_log(qr/^error m reload state=kept err="\Q$file\E:\d+:\d+: max_recipients: /m), 'and the second error');
	is($c->mail('a@example.net'), 250, 'the session');
	is($c->rcpt('1@example.org'), 250, 'goes');
	is($c->rcpt('2@example.org'), 452, 'on as before');
	is($proxy->reload($good =~ s/max_recipients 1/max_recipients 3/r), 'done', 'and once it is good');
	$c->rset;
	$c->mail('a@example.net');
	is($c->rcpt("$_\@example.org"), 250, "it counts") for 1 .. 3;
	unlink $file;
	is($proxy->reload, 'kept', 'a file that is gone is an error');
	like($proxy->log, qr/^error m reload state=kept err="\Q$file\E: No such file/m, 'that is told');
	is($c->noop, 250, 'and no end');
};

subtest 'what only the engine can find wrong changes nothing either' => sub {
	my $certs = Certs->new;
	my $proxy = TestProxy->start(front() . backend('inner', $sink));
	my $c = $proxy->client;

	$c->ehlo;
	my $tls = "tls { certificate %d/none.pem; key %d/none.key }";
	is($proxy->reload(front($tls) . "listener two { listen 127.0.0.1:0; backend inner }\n" . backend('inner', $sink)),
		'kept', 'a certificate that is not there');
	like($proxy->log, qr/^error m reload state=kept err=".*none\.pem: No such file/m, 'is told');
	is($c->noop, 250, 'the session goes on');
	is($proxy->client->greeting, 220, 'and there are new ones');
	is($proxy->reload(front() . backend('inner', $sink)), 'done', 'the next good one is taken');
	my $addr = $proxy->find_addr('two');
	ok(!$addr, 'the new listener of the bad one was never told');
};

subtest 'listeners come, go and change' => sub {
	my $two = "listener two { listen 127.0.0.1:0 unix:%d/spool/in; backend inner }\n";
	my $proxy = TestProxy->start(front() . backend('inner', $sink));
	my $front = $proxy->addr;
	my $c = $proxy->client;

	$c->ehlo;
	is($proxy->reload(front() . $two . backend('inner', $sink)), 'done', 'one is new');
	my $addr = $proxy->find_addr('two') // '';
	my $socket = $proxy->dir . '/spool/in';
	unlike($addr, qr/:0$/, "at $addr");
	# The last line is the Unix socket's.
	($addr) = $proxy->log =~ /listener=two address=(127\S+)/;
	my $new = SmtpClient->connect($addr);
	is($new->greeting, 220, 'it answers');
	is(SmtpClient->connect("unix:$socket")->greeting, 220, 'on all its addresses');
	$new->ehlo;
	is($new->mail('a@example.net'), 250, 'a transaction is open there');
	is($proxy->reload(front() . backend('inner', $sink)), 'done', 'it is gone again');
	ok(is_refused($addr), 'new clients are refused there');
	ok(!-e $socket, 'its Unix socket is gone');
	is($new->rcpt('b@example.org'), 250, 'the transaction');
	is($new->data, 354, 'is');
	is($new->command("\r\n."), 250, 'finished');
	ok($new->wait_eof, 'then the session ends');
	is($c->noop, 250, 'those of the other listener notice nothing');
	is($proxy->addr, $front, 'it stands where it stood');
	is($proxy->client->greeting, 220, 'and takes new ones');
	my $taken = IO::Socket::INET->new(LocalAddr => '127.0.0.1:0', Listen => 1);
	my $fds = fds($proxy->pid);
	is($proxy->reload(front() . "listener two { listen 127.0.0.1:0; backend inner }\n" .
		"listener three { listen 127.0.0.1:@{[ $taken->sockport ]}; backend inner }\n" . backend('inner', $sink)),
		'kept', 'a port that is taken');
	like($proxy->log, qr/^error m reload state=kept .*listener three: cannot listen on .*already in use/m, 'is told');
	is(fds($proxy->pid), $fds, 'and what was bound before it is closed');
	is($c->noop, 250, 'the session is still there');
};

subtest 'a back-end that stays keeps its connections, one that changes gets new ones' => sub {
	my ($a, $b) = (SmtpSink->start, SmtpSink->start);
	my $proxy = TestProxy->start(front() . backend('inner', $a));
	my $c = $proxy->client;

	$c->ehlo;
	is($c->send_message, 250, 'a message');
	my $open = $a->connections;
	is($proxy->reload("drain_timeout 29s\n" . front('max_recipients 5') . backend('inner', $a)), 'done', 'a reload of else');
	is($c->send_message, 250, 'the next message');
	is($a->connections, $open, 'goes over the same connection');
	is($proxy->reload(front() . backend('inner', $b)), 'done', 'the back-end is another one');
	is($c->send_message, 250, 'the next message');
	is($b->count, 1, 'goes there');
	is($a->count, 2, 'and not to the old one');
	ok($a->wait_event(qr/^\d+ line QUIT/m), 'which is left politely');
};

subtest 'a message whose content is under way goes where its MAIL said' => sub {
	my ($a, $b) = (SmtpSink->start, SmtpSink->start);
	my $proxy = TestProxy->start(front('envelope late') . backend('inner', $a));
	my $c = $proxy->client;

	$c->ehlo;
	$c->mail('a@example.net');
	$c->rcpt('b@example.org');
	$c->data;
	$c->send("Subject: x\r\n\r\nhalf\r\n");
	is($proxy->reload(front('envelope late') . backend('other', $b) =~ s/other/inner/r), 'done', 'another back-end');
	is($c->command('.'), 250, 'it is taken');
	is($a->count, 1, 'by the old one');
	is($b->count, 0, 'and not by the new one');
	ok($proxy->wait_summary, 'its line');
};

subtest 'a password is read again' => sub {
	my $auth = SmtpSink->start(caps => [ 'AUTH PLAIN' ], unknown => [ '235 2.7.0 ok' ]);
	my $proxy = TestProxy->start(front() . backend('inner', $sink), folders => ['keys']);
	my $file = $proxy->dir . '/keys/password';
	my $conf = front() . backend('inner', $auth, "auth_user u; auth_password_file $file; auth_plaintext yes");
	my $write = sub { write_file($file, $_[0], 0600); $proxy->give_away; chown((stat $proxy->dir)[4, 5], $file) };

	$write->("first\n");
	is($proxy->reload($conf), 'done', 'a back-end with a password');
	is($proxy->client->command('EHLO x'), 250, 'a client');
	my $c = $proxy->client;
	$c->ehlo;
	is($c->send_message, 250, 'and a message');
	my $plain = sub { my ($pw) = @_; use MIME::Base64; return encode_base64("\0u\0$pw", '') };
	ok(scalar(grep { /\QAUTH PLAIN @{[ $plain->('first') ]}/ } $auth->commands), 'with the first password');
	$write->("second\n");
	is($proxy->reload, 'done', 'HUP alone');
	is($c->send_message, 250, 'the next message');
	ok(scalar(grep { /\QAUTH PLAIN @{[ $plain->('second') ]}/ } $auth->commands), 'comes with the second');
	unlike($proxy->log, qr/second|c2Vjb25k/, 'which the log does not know');
};

subtest 'the log goes elsewhere, and a rotated file is opened again' => sub {
	my $conf = front() . backend('inner', $sink);
	my $proxy = TestProxy->start($conf);

	is($proxy->reload("log { level debug }\n$conf"), 'done', 'another level');
	my $c = $proxy->client;
	$c->ehlo;
	ok($proxy->wait_log(qr/^debug w\d s=\w+ state /m), 'counts at once');
	is($proxy->reload($conf), 'done', 'and back');
	my $at = length $proxy->log;
	$proxy->client->quit;
	ok($proxy->wait_log(qr/ disconnect /), 'a session');
	unlike(substr($proxy->log, $at), qr/^debug/m, 'without a word of debug');
};

subtest 'watch_config: a file that changes is read by itself' => sub {
	my $conf = "watch_config yes\ninclude %d/conf.d/*.conf\n" . backend('inner', $sink);
	my $dir;
	my $proxy = TestProxy->start($conf . front('max_recipients 1'), folders => ['conf.d']);
	$dir = $proxy->dir;

	my $from = length $proxy->log;
	write_file("$dir/conf.d/two.conf", "listener two { listen 127.0.0.1:0; backend inner }\n", 0644);
	is($proxy->wait_reload($from), 'done', 'a file that has come where include looks');
	ok((wait_until { $proxy->find_addr('two') }), 'brings its listener');
	$from = length $proxy->log;
	write_file("$dir/conf.d/two.conf", "listener two { listen 127.0.0.1:0; backend innner }\n", 0644);
	is($proxy->wait_reload($from), 'kept', 'one with a mistake changes nothing');
	like(substr($proxy->log, $from), qr{two\.conf:1:\d+: backend: there is no backend \\"innner\\" \(did you mean \\"inner\\"\?\)},
		'and says where');
	is($proxy->client('two')->greeting, 220, 'all is as before');
	$from = length $proxy->log;
	rename "$dir/conf.d/two.conf", "$dir/conf.d/two.off";
	is($proxy->wait_reload($from), 'done', 'one that is gone');
	ok(is_refused($proxy->addr('two')), 'takes its listener with it');
	is(scalar(() = substr($proxy->log, $from) =~ / reload state=/g), 1, 'each change is one reload');
};

subtest 'another number of workers is another engine, which takes over without a gap' => sub {
	my $proxy = TestProxy->start("workers 1\n" . front() . backend('inner', $sink));
	my $old = engine($proxy);
	my $c = $proxy->client;

	$c->ehlo;
	$c->mail('a@example.net');
	is($proxy->reload("workers 2\n" . front() . backend('inner', $sink)), 'done', 'it is done');
	isnt(engine($proxy), undef, 'there is an engine');
	ok($proxy->wait_log(qr/^info a ready workers=2 /m), 'with two workers');
	is($c->rcpt('b@example.org'), 250, 'the transaction in the old one');
	is($c->data, 354, 'is');
	is($c->command("\r\n."), 250, 'finished');
	ok($c->wait_eof, 'then its session ends');
	ok(wait_until { !kill 0, $old }, 'and it is gone');
	is($proxy->client->greeting, 220, 'the new one answers');
	is(scalar(() = $proxy->log =~ / died /g), 0, 'nobody has died');
};

subtest 'what a process cannot change is said' => sub {
	my $conf = front() . backend('inner', $sink);
	my $proxy = TestProxy->start($conf);

	is($proxy->reload("pid_file %d/spool/pid\n$conf"), 'done', 'a pid file is named');
	like($proxy->log, qr/^warn m reload state="this option needs a restart" option=pid_file$/m, 'it needs a restart');
	is($proxy->stop, 0, 'a stop is in good order');
};

# Sends messages until told otherwise; each answer, and each thing that is no answer, is a line.
sub sender
{
	my ($proxy, $dir, $id) = @_;

	my $pid = fork // die "fork: $!";
	return $pid if $pid;
	open my $out, '>', "$dir/$id" or POSIX::_exit(1);
	$out->autoflush;
	my ($n, $slowest) = (0, 0);
	until (-e "$dir/stop") {
		my $c = eval { SmtpClient->connect($proxy->addr, timeout => 20) };
		my $ok = $c && $c->greeting == 220 && $c->ehlo == 250;
		print $out "connection $id ", ($@ || ($c && $c->greeting) || 'none'), "\n" unless $ok;
		for (1 .. 20) {
			last if !$ok || -e "$dir/stop";
			my $began = time;
			my $reply = eval { $c->send_message(content => "X-Key: $id-" . ++$n . "\r\n\r\nx\r\n") } // 'lost';
			print $out "$reply $id-$n\n";
			$slowest = time - $began if time - $began > $slowest;
			last unless $reply == 250;
		}
		$c->quit if $ok;
	}
	print $out "slowest $slowest\n";
	POSIX::_exit(0);
}

subtest 'a thousand reloads under load: nobody is refused or cut, and nothing grows' => sub {
	my $many = $ENV{POSTERN_RELOADS} || 1000;
	my $back = SmtpSink->start;
	my $conf = front() . backend('inner', $back);
	my $proxy = TestProxy->start($conf);
	my $dir = temp_dir();
	my @good = ($conf, front('max_recipients 7', 'hostname second.example') . backend('inner', $back),
		front() . backend('inner', $back, 'max_idle 3'),
		"$conf\nlistener two { listen 127.0.0.1:0; backend inner }\n");
	my $bad = $conf . "nonsense\n";
	my @senders = map { sender($proxy, $dir, $_) } 1 .. 4;
	my $rss = sub { return map { read_file("/proc/$_/statm") =~ /^\d+ (\d+)/ } $proxy->pid, engine($proxy) };
	my (@before, $fds, %how);
	my $from = length $proxy->log;
	my $turn = sub {
		my ($i) = @_;
		my $kind = $i % 2;
		$proxy->write_conf($kind ? $bad : $good[ $i / 2 % @good ]);
		$proxy->signal('HUP');
		my $at = $from;
		open my $log, '<', $proxy->dir . '/log' or die;
		my $end = time + 20;
		my $result;
		while (!$result && time < $end) {
			seek $log, $from, 0;
			local $/;
			my $new = <$log> // '';
			if ($new =~ /^\S+ m reload state=(done|kept) .*\n/m) { $result = $1; $from += $+[0] }
			else { sleep 0.001 }
		}
		$how{ ($result // 'lost') . ($kind ? ' bad' : ' good') }++;
	};
	for my $i (0 .. $many - 1) {
		if ($i == int($many / 4)) { @before = $rss->(); $fds = fds(engine($proxy)) }
		$turn->($i);
	}
	is_deeply(\%how, { 'done good' => $many / 2, 'kept bad' => $many / 2 }, "$many reloads, as each had to end");
	my @after = $rss->();
	write_file("$dir/stop", '');
	{ local $?; waitpid $_, 0 for @senders; }
	my @lines = map { split /\n/, read_file("$dir/$_") // '' } 1 .. 4;
	my @sent = map { /^250 (\S+)/ ? $1 : () } @lines;
	cmp_ok(scalar @sent, '>', $many / 10, scalar(@sent) . ' messages meanwhile');
	is(join(' | ', grep { !/^(?:250|slowest) / } @lines), '', 'each was answered 250 in a session that stood');
	my %got;
	$got{$_}++ for map { $_->{content} =~ /^X-Key: (\S+)/m } $back->messages;
	is(join(' ', grep { !$got{$_} } @sent), '', 'each is at the back-end');
	is(join(' ', grep { $got{$_} > 1 } keys %got), '', 'once');
	note 'slowest message: ', join ' ', map { /^slowest (\S+)/ ? sprintf '%.0f ms', 1000 * $1 : () } @lines;
	ok((wait_until { fds(engine($proxy)) <= $fds + 4 }), 'no descriptor is left behind') or diag fds(engine($proxy)) . " now, $fds before";
	# Pages; sanitizers keep what was freed.
	SKIP: {
		skip 'sanitizers keep what was freed', 2 if read_file(builddir() . '/config.log') =~ /enable-(?:sanitizers|tsan)/;
		cmp_ok($after[0] - $before[0], '<', 500, 'the monitor has not grown') or diag "@before -> @after";
		cmp_ok($after[1] - $before[1], '<', 1500, 'nor the engine') or diag "@before -> @after";
	}
	unlike($proxy->log, qr/ (?:died|stuck) /, 'nothing has died');
};

done_testing;
