#!/usr/bin/perl
# The health port: what its pages say, to whom, whatever else comes, and whatever the workers do.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use HttpClient;
use JSON::PP ();
use Metrics;
use POSIX ();
use SmtpClient;
use SmtpSink;
use StopThread;
use TestProxy;
use TestUtil;
use Time::HiRes qw(time sleep);

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR};

my @pages = ('/healthz', '/readyz', '/metrics', '/status');
my $front = "listener front { listen 127.0.0.1:0; backend inner }\n";
my $health = "health { listen 127.0.0.1:0 }\n";
my $discard = "backend inner { discard yes }\n";
my $request = HttpClient::request('GET', '/healthz');

sub get { my ($proxy, @more) = @_; return HttpClient::get($proxy->health_addr, @more) }
sub status { my ($proxy) = @_; return JSON::PP::decode_json(get($proxy, '/status')->{body}) }
sub spawner { my ($proxy) = @_; return (grep { (read_file("/proc/$_/comm") // '') =~ /spawn/ } $proxy->children)[0] }
sub engine { my ($proxy) = @_; return (grep { (read_file("/proc/$_/comm") // '') =~ /engine/ } $proxy->children)[0] }

# One whose workers will be stuck when we come back to it at the end. Its monitor would replace the engine: it has
# to wait for that.
my $sleeper = TestProxy->start("workers 2\n$health$front$discard");
my $stuck = engine($sleeper);
kill 'STOP', $sleeper->pid;
END { local $?; kill 'CONT', $sleeper->pid if $sleeper && $sleeper->pid }
my $threads = StopThread::threads($stuck);
my @stopped = grep { defined } map { StopThread->new($threads->{$_}) } 'w0', 'w1';
my $stopped_at = time;

# Octets that have come and were not read.
sub unread
{
	my ($sock) = @_;
	my $n = pack 'i', 0;

	ioctl $sock, 0x541b, $n or die "FIONREAD: $!";
	return unpack 'i', $n;
}

# A client that dribbles beside all that follows, and writes down for how long it was let.
my $dribbled = temp_dir();
my $dribbler = fork // die "fork: $!";
if ($dribbler == 0) {
	my $c = HttpClient->new($sleeper->health_addr);
	my $begin = time;

	while ($c->is_open && time - $begin < 60) {
		$c->send('G');
		sleep 0.1;
	}
	write_file("$dribbled/tmp", time - $begin);
	rename "$dribbled/tmp", "$dribbled/seconds";
	POSIX::_exit(0);
}
END { local $?; kill 'KILL', $dribbler if $dribbler }

# ---- the pages -------------------------------------------------------------------------------

my $proxy = TestProxy->start("health { listen 127.0.0.1:0 unix:%d/health }\n$front$discard"
	. "dummy slow { wait 1ms }\ndefault_chain slow\n");

subtest 'four pages' => sub {
	my %type = ('/metrics' => 'text/plain; version=0.0.4; charset=utf-8', '/status' => 'application/json');

	for my $page (@pages) {
		my $reply = get($proxy, $page);

		is($reply->{status}, 200, "$page is there");
		is($reply->{head}{'content-type'}, $type{$page} // 'text/plain; charset=utf-8', 'with its type');
		is($reply->{head}{'cache-control'}, 'no-store', 'and fresh');
		like($reply->{head}{date}, qr/^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\z/, 'with its date');
		my $head = get($proxy, $page, method => 'HEAD');
		is($head->{status}, 200, 'HEAD is the same');
		cmp_ok($head->{head}{'content-length'}, '>', 0, 'with the length') if $page ne '/metrics';
		is(get($proxy, "$page?x=/y#z")->{status}, 200, 'a query changes nothing');
	}
	is(get($proxy, '/healthz')->{body}, "ok\n", '/healthz says ok');
	is(get($proxy, '/readyz')->{body}, "ok\n", '/readyz says ok');
	is(HttpClient::get('unix:' . $proxy->dir . '/health', '/healthz')->{body}, "ok\n", 'also through a Unix socket');
};

subtest 'no other page and no other method' => sub {
	for my $path ('/', '/healthz/', '/health', '//healthz', '/HEALTHZ', '/%68ealthz', '/../healthz', '/' . 'a' x 1000) {
		my $reply = get($proxy, $path);

		is($reply->{status}, 404, substr($path, 0, 20) . ' is not there');
		like($reply->{body}, qr{/healthz.*/readyz.*/metrics.*/status}, 'the reply names those that are');
	}
	for my $method (qw(POST PUT DELETE OPTIONS TRACE CONNECT PATCH get FOO)) {
		my $reply = get($proxy, '/healthz', method => $method);

		is($reply->{status}, 405, "$method is not allowed");
		is($reply->{head}{allow}, 'GET, HEAD', 'the reply says what is');
	}
};

subtest '/status as JSON' => sub {
	is($proxy->client->send_message, 250, 'a message passes');
	$proxy->wait_summary;
	my $s = status($proxy);

	is_deeply([ sort keys %$s ], [ qw(backends filters limits listeners postern quarantine spool workers) ], 'its parts');
	is($s->{postern}{version}, `@{[ $proxy->program ]} -V` =~ s/^postern (.*)\n/$1/r, 'the version');
	is($s->{postern}{pid}, engine($proxy), 'the process');
	like($s->{postern}{started}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\z/, 'when it started');
	cmp_ok($s->{postern}{uptime_seconds}, '<', 100 * $TestUtil::PATIENCE, 'how long ago');
	is($s->{postern}{generation}, 1, 'the generation of its configuration');
	ok($s->{postern}{ready} && $s->{postern}{healthy} && !$s->{postern}{stopping}, 'it is well');
	is_deeply($s->{postern}{problems}, [], 'without problems');
	ok(scalar @{ $s->{workers} }, 'there are workers');
	ok(!$_->{stuck}, "$_->{name} is not stuck") for @{ $s->{workers} };
	is($s->{listeners}[0]{name}, 'front', 'a listener');
	is_deeply($s->{listeners}[0]{transactions}, { pass => 1 }, 'and what it had');
	is_deeply($s->{backends}, [ { name => 'inner', kind => 'discard', deliveries => { '2xx' => 1 } } ], 'a back-end');
	is_deeply($s->{filters}, [ { name => 'slow', running => 0, waiting => 0, breaker => 'closed', calls => { pass => 1 },
		failures => 0, timeouts => 0 } ],
		'a filter');
	cmp_ok($s->{limits}{max_connections}, '>', 0, 'limits');
	is($s->{spool}{directory}, $proxy->dir . '/spool', 'the spool');
	cmp_ok($s->{spool}{free_bytes}, '>', 0, 'and its room');
};

# ---- who may ask -----------------------------------------------------------------------------

subtest 'only clients may ask' => sub {
	my $p = TestProxy->start("health { listen 127.0.0.1:0 unix:%d/h; clients 127.0.0.2 }\n$front$discard");

	for my $page (@pages, '/x') {
		my $reply = get($p, $page);
		is($reply->{status}, 403, "$page is not for others");
		unlike($reply->{body}, qr/postern_|front|ok/, 'and they learn nothing');
	}
	is(get($p, '/healthz', local => '127.0.0.2')->{status}, 200, 'a client may');
	is(HttpClient::get('unix:' . $p->dir . '/h', '/healthz')->{status}, 200, 'so may whoever reaches a Unix socket');
	my $dir = $p->dir;
	$p->stop;
	ok(!-e "$dir/h", 'which goes with the last one');
};

subtest 'without health there is no port' => sub {
	my $p = TestProxy->start("$front$discard");

	is($p->health_addr, undef, 'the log names none');
	my $engine = engine($p);
	my %inode = map { $_ => 1 } map { readlink($_) =~ /^socket:\[(\d+)\]/ ? $1 : () } glob "/proc/$engine/fd/*";
	my @listening = grep { $inode{ (split)[9] } && (split)[3] eq '0A' } split /\n/, read_file('/proc/net/tcp');
	is(scalar @listening, 1, 'and nothing listens but the listener');
};

# ---- HTTP ------------------------------------------------------------------------------------

subtest 'several requests on one connection' => sub {
	my $c = HttpClient->new($proxy->health_addr);

	for my $page ('/healthz', '/metrics', '/status', '/nothing') {
		$c->send(HttpClient::request('GET', $page));
		ok($c->read_reply, "$page one after the other");
	}
	$c->send($request x 50);
	is(scalar(grep { ($c->read_reply // {})->{body} eq "ok\n" } 1 .. 50), 50, '50 in one packet get 50 replies');
	# Replies wait for the client, and requests for the replies.
	$c->send(HttpClient::request('GET', '/metrics') x 300);
	ok((wait_until { unread($c->sock) > 16_384 }), 'much is waiting for a client that asks for 300 large ones');
	is(scalar(grep { (($c->read_reply // {})->{body} // '') =~ /postern_ready/ } 1 .. 300), 300,
		'and when it reads all of them come');
	$c->send($request);
	shutdown $c->sock, 1;
	is($c->read_reply->{body}, "ok\n", 'the reply comes behind the end of the client');
	ok($c->is_over, 'and then the connection ends');
	$c = HttpClient->new($proxy->health_addr);
	$c->send("$request" . HttpClient::request('GET', '/x', 'Connection: keep-alive, close') . $request);
	is(join(' ', map { ($c->read_reply // { status => 'end' })->{status} } 1 .. 3), '200 404 end',
		'Connection: close ends it');
};

subtest 'forms of a request' => sub {
	my @good = (
		[ 'empty lines in front' => "\r\n\r\n$request" ],
		[ 'HTTP/1.0' => "GET /healthz HTTP/1.0\r\n\r\n" ],
		[ 'a length of 0' => HttpClient::request('GET', '/healthz', 'Content-Length: 0') ],
		[ 'blanks around values' => "GET /healthz HTTP/1.1\r\nHost:\t x \r\nX:\r\n\r\n" ],
		# RFC 9112 3.2.2: from clients that think that we are a proxy.
		[ 'a whole URI' => "GET http://x/healthz HTTP/1.1\r\nHost: x\r\n\r\n" ],
		[ 'a whole URI with port and query' => "GET HTTP://[::1]:8080/healthz?full HTTP/1.1\r\nHost: x\r\n\r\n" ],
		[ 'octets beyond ASCII in a value' => HttpClient::request('GET', '/healthz', "X: \xff\xfe") ],
	);
	my @bad = (
		[ 'no HTTP' => 400, "hello\r\n\r\n" ],
		[ 'SMTP' => 400, "EHLO client.example\r\n" ],
		[ 'a TLS handshake' => 400, "\x16\x03\x01\x00\x05hello\n" ],
		[ 'HTTP/0.9' => 400, "GET /healthz\r\n\r\n" ],
		[ 'HTTP/2' => 505, "GET /healthz HTTP/2.0\r\n\r\n" ],
		[ 'two blanks' => 400, "GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n" ],
		[ 'a URI of nobody' => 400, "GET http:///healthz HTTP/1.1\r\nHost: x\r\n\r\n" ],
		[ 'a URI of a port alone' => 400, "GET http://:80/healthz HTTP/1.1\r\nHost: x\r\n\r\n" ],
		[ 'a URI with a user' => 400, "GET http://root\@x/healthz HTTP/1.1\r\nHost: x\r\n\r\n" ],
		[ 'a URI of another scheme' => 400, "GET ftp://x/healthz HTTP/1.1\r\nHost: x\r\n\r\n" ],
		[ 'control octets in a URI' => 400, "GET http://x\x01/healthz HTTP/1.1\r\nHost: x\r\n\r\n" ],
		[ 'a NUL in a URI' => 400, "GET http://x\0/healthz HTTP/1.1\r\nHost: x\r\n\r\n" ],
		[ 'control octets in the path' => 400, "GET /heal\x01thz HTTP/1.1\r\nHost: x\r\n\r\n" ],
		[ 'a NUL in the path' => 400, "GET /healthz\0x HTTP/1.1\r\nHost: x\r\n\r\n" ],
		[ 'octets beyond ASCII in the path' => 400, "GET /\xc3\xa4 HTTP/1.1\r\nHost: x\r\n\r\n" ],
		[ 'a bare LF' => 400, "GET /healthz HTTP/1.1\nHost: x\n\n" ],
		[ 'a bare CR' => 400, "GET /healthz HTTP/1.1\r\nHost: x\rX: y\r\n\r\n" ],
		[ 'a NUL in a value' => 400, "GET /healthz HTTP/1.1\r\nHost: x\r\nX: \0\r\n\r\n" ],
		[ 'no Host' => 400, "GET /healthz HTTP/1.1\r\n\r\n" ],
		[ 'two Hosts' => 400, "GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" ],
		[ 'a folded field' => 400, "GET /healthz HTTP/1.1\r\nHost: x\r\n y\r\n\r\n" ],
		[ 'a field without a colon' => 400, "GET /healthz HTTP/1.1\r\nHost\r\n\r\n" ],
		[ 'a blank before the colon' => 400, "GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n" ],
		[ 'a body' => 413, "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" ],
		[ 'two lengths' => 413, "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n" ],
		[ 'chunks' => 501, "GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" ],
		[ 'a long path' => 414, 'GET /' . 'a' x 2000 . " HTTP/1.1\r\nHost: x\r\n\r\n" ],
		[ 'a long head' => 431, "GET /healthz HTTP/1.1\r\nHost: x\r\n" . "X: y\r\n" x 2000 ],
		[ 'a line without end' => 431, 'G' x 9000 ],
	);

	for my $case (@good) {
		my $c = HttpClient->new($proxy->health_addr);
		$c->send($case->[1]);
		is(($c->read_reply // {})->{status}, 200, "$case->[0]");
	}
	for my $case (@bad) {
		my ($name, $status, $octets) = @$case;
		my $c = HttpClient->new($proxy->health_addr);
		$c->send("$octets$request");
		my $reply = $c->read_reply // {};
		is($reply->{status}, $status, "$name: $status") or next;
		is($reply->{head}{connection}, 'close', "$name: it says that this is the end");
		ok($c->is_over, "$name: and nothing behind it is obeyed");
	}
	my $c = HttpClient->new($proxy->health_addr);
	for my $target ('http://x', 'http://x?healthz', 'http://x/') {
		$c->send("GET $target HTTP/1.1\r\nHost: x\r\n\r\n");
		is(($c->read_reply // {})->{status}, 404, "$target has no page");
	}
	for my $octet (split //, $request) {
		$c->send($octet);
	}
	is($c->read_reply->{status}, 200, 'a request octet by octet');
};

subtest 'clients that are in the way' => sub {
	my @idle = map { HttpClient->new($proxy->health_addr) } 1 .. 100;

	$_->send("GET /heal") for @idle[ 50 .. 99 ];
	is(get($proxy, '/healthz')->{status}, 200, 'beside 100 that say nothing or half a word');
	ok(wait_until { (grep { !$_->is_open } @idle) >= 68 }, 'of whom but 32 are kept');
	cmp_ok(scalar(grep { $_->is_open } @idle), '>=', 30, 'these, the last that came, as long as they wish');
	my @deaf = map { my $c = HttpClient->new($proxy->health_addr); $c->send(HttpClient::request('GET', '/metrics') x 100); $c } 1 .. 40;
	is(get($proxy, '/healthz')->{status}, 200, 'beside 40 that ask and do not read');
	$_->sock->close for @idle, @deaf;
	for (1 .. 100) {
		my $c = HttpClient->new($proxy->health_addr);
		$c->send($request);
		$c->sock->setsockopt(Socket::SOL_SOCKET(), Socket::SO_LINGER(), pack 'ii', 1, 0);
		$c->sock->close;
	}
	is(get($proxy, '/healthz')->{status}, 200, 'behind 100 that went away');
	is($proxy->client->send_message, 250, 'and mail passes');
};

# ---- ready or not ----------------------------------------------------------------------------

subtest '/readyz follows the back-end' => sub {
	my $sink = SmtpSink->start;
	my $other = free_port();
	my $p = TestProxy->start($health . "listener front { listen 127.0.0.1:0; backend inner }\n"
		. "listener side { listen 127.0.0.1:0; backend keep }\nbackend keep { maildir %d/m }\n"
		. "backend inner { hosts @{[ $sink->addr ]} 127.0.0.1:$other; probe_interval 200ms }\n");

	ok(wait_until { $p->log =~ /backend=inner state=down host=127\.0\.0\.1:$other/ }, 'one of two hosts is down');
	is(get($p, '/readyz')->{status}, 200, 'with the other one mail can be taken');
	is(get($p, '/healthz')->{status}, 200, 'and it lives');
	$sink->stop;
	is($p->client('front')->send_message, 451, 'without it no mail passes');
	ok(wait_until { get($p, '/readyz')->{status} == 503 }, 'then it is not ready');
	is(get($p, '/readyz')->{body}, "listener front: no host of back-end inner is up\n", 'and says which listener and why');
	is(get($p, '/healthz')->{status}, 200, 'but lives');
	is_deeply(status($p)->{postern}{problems}, [ 'listener front: no host of back-end inner is up' ], '/status says it, too');
	is_deeply([ map { $_->{state} } @{ status($p)->{backends}[1]{hosts} } ], [ 'down', 'down' ], 'and the state of each host');
	$sink->restart;
	ok(wait_until { get($p, '/readyz')->{status} == 200 }, 'when a host is back it is ready again');
};

subtest '/readyz follows the spool' => sub {
	my $p = TestProxy->start("$health$front${discard}spool { directory %d/s; min_free 1048576G }\n");

	ok(wait_until { get($p, '/readyz')->{status} == 503 }, 'without room it is not ready');
	is(get($p, '/readyz')->{body}, 'spool ' . $p->dir . "/s: the spool has too little free space\n", 'and says why');
	is(status($p)->{spool}{free_bytes}, 0, '/status says it, too');
	is($p->client->send_message, 452, 'so it is');
};

subtest 'a stop' => sub {
	my $p = TestProxy->start("workers 1\n$health$front${discard}drain_timeout 1m\n");
	my $c = $p->client;

	$c->ehlo;
	$c->mail('a@example.net');
	my $addr = $p->health_addr;
	$p->signal('TERM');
	ok(wait_until { HttpClient::get($addr, '/readyz')->{status} == 503 }, 'it is not ready while it finishes');
	is(HttpClient::get($addr, '/readyz')->{body}, "Postern stops: no new connections are accepted\n", 'and says why');
	is(HttpClient::get($addr, '/healthz')->{status}, 200, 'but lives');
	ok(JSON::PP::decode_json(HttpClient::get($addr, '/status')->{body})->{postern}{stopping}, '/status says so');
	is($c->rcpt('b@example.org'), 250, 'the transaction goes on');
	is($c->data, 354, 'to its end');
	$c->send("x\r\n.\r\n");
	is($c->read_reply, 250, 'with 250');
	ok(wait_until { !$p->is_running }, 'then it stops');
	is($p->stop, 0, 'orderly');
};

subtest 'an engine that another one has succeeded does not answer any more' => sub {
	my $p = TestProxy->start("workers 1\n$health$front${discard}drain_timeout 1m\n");
	my $c = $p->client;
	my $old = engine($p);

	$c->ehlo;
	$c->mail('a@example.net');
	kill 'KILL', spawner($p);
	ok($p->wait_log(qr/^info a stop why="another engine has taken over"$/m), 'another engine takes over');
	ok(-d "/proc/$old", 'while the old one finishes what it has');
	is(scalar(grep { status($p)->{postern}{pid} != $old } 1 .. 30), 30, 'the new one answers');
	is(scalar(grep { get($p, '/readyz')->{status} == 200 } 1 .. 30), 30, 'that it is ready');
	is($c->rcpt('b@example.org'), 250, 'the old one goes on');
	$c->data;
	$c->send("x\r\n.\r\n");
	is($c->read_reply, 250, 'with its mail');
};

# Octets that have left and not arrived (SIOCOUTQ).
sub unconfirmed { my ($sock) = @_; ioctl $sock, 0x5411, my $n = pack 'i', 0; return unpack 'i', $n }

subtest 'who has asked an engine that is told to leave gets his answer' => sub {
	my $p = TestProxy->start("workers 1\n$health$front$discard");
	my $old = engine($p);
	my @asking = map { HttpClient->new($p->health_addr) } 1 .. 3;
	my $leave = POSIX::SIGRTMIN() + 1;

	for my $c (@asking) {
		$c->send($request);
		is($c->read_reply->{status}, 200, 'it is his engine');
	}
	# What it finds when it wakes: the signal, and behind it the questions.
	kill 'STOP', $old;
	ok((wait_until { (read_file("/proc/$old/stat") // '') =~ /\) T/ }), 'it stands still');
	kill $leave, $old;
	$_->send($request) for @asking;
	ok((wait_until { !grep { unconfirmed($_->sock) } @asking }), 'the questions have arrived');
	kill 'CONT', $old;
	for my $c (@asking) {
		my $reply = $c->read_reply // { status => 'none', head => {} };
		is($reply->{status}, 200, 'he is answered');
		is($c->read_reply, undef, 'for the last time');
	}
	ok((wait_until { !-d "/proc/$old" || (read_file("/proc/$old/stat") // ' Z') =~ /\) Z/ } 20), 'the engine goes');
};

subtest 'a reload' => sub {
	my $p = TestProxy->start("$health$front$discard");
	my $first = $p->health_addr;
	my $port = free_port();

	is($p->client->send_message, 250, 'a message passes');
	my $kept = HttpClient->new($first);
	$kept->send($request);
	is($kept->read_reply->{status}, 200, 'somebody asks');
	is($p->reload("$health$front${discard}listener side { listen 127.0.0.1:0; backend inner }\ndummy new { }\ndefault_chain new\n"),
		'done', 'a reload that leaves the address as it is');
	$kept->send($request);
	is(($kept->read_reply // {})->{status}, 200, 'does not cut him off');
	is($p->client->send_message, 250, 'another message passes');
	ok(wait_until { status($p)->{listeners}[0]{messages_received} == 2 }, 'counters go on');
	my $s = status($p);
	is($s->{postern}{generation}, 2, 'the generation is told');
	is(join(' ', map { $_->{name} } @{ $s->{listeners} }), 'front side', 'so is what is new: a listener');
	is_deeply($s->{filters}[0]{calls}, { pass => 1 }, 'and a filter, with what it has done');
	is(Metrics->parse(get($p, '/metrics')->{body})->value('postern_sessions_opened_total', listener => 'side'), 0, 'also in /metrics');
	is(Metrics->parse(get($p, '/metrics')->{body})->value('postern_config_generation'), 2, 'with the generation');
	is($p->reload("nonsense\n$front$discard"), 'kept', 'a reload that fails');
	ok((wait_until { Metrics->parse(get($p, '/metrics')->{body})->value('postern_config_reload_failures_total') == 1 }),
		'is counted');
	is(Metrics->parse(get($p, '/metrics')->{body})->value('postern_config_last_reload_successful'), 0, 'and shows');
	is($p->reload("health { listen 127.0.0.1:$port }\n$front$discard"), 'done', 'another address');
	is(HttpClient::get("127.0.0.1:$port", '/healthz')->{status}, 200, 'answers');
	ok(!eval { HttpClient->new($first) }, 'the old one is refused');
	is($p->reload("$front$discard"), 'done', 'without health');
	ok(!eval { HttpClient->new("127.0.0.1:$port") }, 'nobody answers');
	is($p->client->send_message, 250, 'and mail passes');
};

# ---- load ------------------------------------------------------------------------------------

subtest 'under load' => sub {
	my $p = TestProxy->start("workers 2\n$health$front$discard");
	my $sent = temp_dir();
	my @senders = map {
		my $pid = fork // die "fork: $!";
		if ($pid == 0) {
			my $c = $p->client;
			$c->ehlo;
			my $n = 0;
			write_file("$sent/$$", ++$n) while $c->send_message(pipeline => 1, content => "S: x\r\n\r\n" . "x" x 20000 . "\r\n") == 250;
			POSIX::_exit(0);
		}
		$pid;
	} 1 .. 4;
	ok(wait_until { 4 == grep { (read_file($_) || 0) > 5 } glob "$sent/*" }, 'four clients send what they can');
	my @late;
	for my $round (1 .. 20) {
		for my $page (@pages) {
			my $reply = get($p, $page);
			push @late, sprintf '%s %.3f', $page, $reply->{seconds} if $reply->{seconds} > 0.5 * $TestUtil::PATIENCE;
		}
		Metrics->parse(get($p, '/metrics')->{body});
	}
	kill 'KILL', @senders;
	waitpid $_, 0 for @senders;
	cmp_ok(scalar @late, '<=', 4, 'of 80 pages 76 come soon') or diag "@late";
};

# ---- workers that do not move ----------------------------------------------------------------

SKIP: {
	skip 'nobody may trace threads here', 1 unless @stopped == 2;
	subtest 'all workers stand still' => sub {
		for my $page (@pages) {
			my $best = (sort { $a <=> $b } map { get($sleeper, $page)->{seconds} } 1 .. 3)[0];
			cmp_ok($best, '<', 0.5 * $TestUtil::PATIENCE, "$page comes at once");
		}
		ok((wait_until { get($sleeper, '/healthz')->{status} == 503 } 20), '/healthz says 503');
		cmp_ok(time - $stopped_at, '>', 9, 'but not before ten seconds are over');
		like(get($sleeper, '/healthz')->{body}, qr/^worker w0 is stuck: its loop has not turned for \d+ seconds\nworker w1 .*\n\z/,
			'and which workers');
		is(get($sleeper, '/readyz')->{body}, "all workers are stuck\n", 'no mail can be taken');
		my $m = Metrics->parse(get($sleeper, '/metrics')->{body});
		is($m->value('postern_workers_stuck'), 2, 'it is counted');
		is($m->value('postern_ready'), 0, 'so is that it is not ready');
		cmp_ok($m->value('postern_worker_heartbeat_age_seconds', worker => 'w0'), '>', 9, 'and for how long');
		ok($_->{stuck}, "/status says it of $_->{name}") for @{ status($sleeper)->{workers} };
		$stopped[1]->go;
		ok(wait_until { get($sleeper, '/readyz')->{status} == 200 }, 'with one of two mail can be taken');
		like(get($sleeper, '/healthz')->{body}, qr/^worker w0 is stuck.*\n\z/, 'but the other one is still stuck');
		kill 'CONT', $sleeper->pid;
		ok($sleeper->wait_log(qr/^info a stop why="another engine has taken over"$/m), 'its monitor has another one take over');
		is(scalar(grep { status($sleeper)->{postern}{pid} != $stuck } 1 .. 30), 30, 'which alone answers');
		is(get($sleeper, '/healthz')->{status}, 200, 'that it lives');
		is($sleeper->client->send_message, 250, 'and mail passes');
		$stopped[0]->go;
		ok(wait_until { !-d "/proc/$stuck" || (read_file("/proc/$stuck/stat") // ' Z') =~ /\) Z/ }, 'the old one ends, when it can');
	};
}
kill 'CONT', $sleeper->pid;
@stopped = ();

# ---- one who dribbles ------------------------------------------------------------------------

ok((wait_until { -e "$dribbled/seconds" } 20), 'a client that dribbles is cut');
cmp_ok(read_file("$dribbled/seconds") // 60, '<', 10 + 5 * $TestUtil::PATIENCE, 'ten seconds after it came');

done_testing;
