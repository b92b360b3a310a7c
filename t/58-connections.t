#!/usr/bin/perl
# How many connections there may be: in all, on one listener, of one client.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use SmtpClient;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR};

my $back = "backend inner { discard yes }\n";

# A client that was taken; dies when it was not.
sub taken { my ($proxy, $name, @from) = @_; return $proxy->client($name, @from ? (local => @from) : ()) }

# What one is told instead of the greeting, after which the connection ends.
sub told
{
	my ($proxy, $name, @from) = @_;
	my $c = SmtpClient->new($proxy->addr($name), @from ? (local => @from) : ());
	my $reply = $c->read_reply;

	return $reply->raw =~ s/\r\n\z//r if $reply == 220;
	$c->send("EHLO x.example\r\nMAIL FROM:<a\@example.net>\r\n");
	$c->wait_eof;
	return $reply->raw =~ s/\r\n\z//r . ($c->pending eq '' ? '' : ', and more: ' . $c->pending);
}

# A place that a client gave back is free once the worker has seen its end.
sub is_taken_again
{
	my ($proxy, $name, @from) = @_;

	return wait_until { told($proxy, $name, @from) =~ /^220/ };
}

my $full = '421 4.3.2 too many connections, try again later';
my $crowd = '421 4.7.0 too many connections from your address';

subtest 'all connections' => sub {
	my $proxy = TestProxy->start(<<"CONF");
max_connections 16
workers 3
listener one { listen 127.0.0.1:0; backend inner }
listener two { listen 127.0.0.1:0; backend inner }
$back
CONF
	ok($proxy->wait_log(qr/ ready workers=3 listeners=2 max_connections=16 /), 'the log says how many there may be');
	my @clients = map { taken($proxy, $_ % 2 ? 'one' : 'two') } 1 .. 16;

	is(told($proxy, $_), $full, "more than all may be are refused at listener $_") for qw(one two);
	ok($proxy->wait_log(qr/ connect client=127\.0\.0\.1:\d+ listener=two refused=max_connections$/m), 'the log says why');
	is($clients[0]->noop, 250, 'those that are here are served');
	$clients[1]->quit;
	ok(is_taken_again($proxy, 'one'), 'when one has gone another one is taken');
};

subtest 'MAIL is put off before connections are' => sub {
	my $proxy = TestProxy->start("max_connections 16\nlistener front { listen 127.0.0.1:0; backend inner }\n$back");
	my @clients = map { taken($proxy) } 1 .. 14;
	my $begun = $clients[0];

	is($begun->send_message, 250, 'with 14 of 16 mail passes');
	$begun->ehlo;
	$begun->mail('a@example.net');
	$begun->rcpt('b@example.org');
	push @clients, taken($proxy);
	$clients[1]->ehlo;
	my $reply = $clients[1]->mail('a@example.net');
	is($reply->raw, "451 4.3.2 too many connections, try again later\r\n", 'with 15 MAIL is put off');
	is($clients[1]->noop, 250, 'the session goes on');
	is($begun->data, 354, 'a transaction that has begun may go on');
	$begun->send("x\r\n.\r\n");
	is($begun->read_reply, 250, 'to its end');
	push @clients, taken($proxy);
	is(told($proxy), $full, 'only above 16 connections are refused');
	ok($proxy->wait_log(qr/^warn w\d overload state=begins connections=15 max_connections=16$/m), 'the log says that it begins');
	is(scalar(() = $proxy->log =~ / overload /g), 1, 'once');
	pop(@clients)->quit for 1 .. 2;
	ok(wait_until { my $r = $clients[1]->mail('a@example.net'); $clients[1]->rset; $r == 250 }, 'with 14 MAIL is taken');
	unlike($proxy->log, qr/ overload state=over/, 'but that may not last');
	pop(@clients)->quit for 1 .. 2;
	ok($proxy->wait_log(qr/ overload state=over connections=12 refused=1 put_off=\d+$/m), 'with 12 it is over, says the log');
	push @clients, taken($proxy) for 1 .. 3;
	ok($proxy->wait_log(qr/ overload state=begins.* overload state=begins/s), 'the next time is said again');
	$proxy->stop;
	like($proxy->log, qr/^info a refused clients=0 max_connections=1 max_per_client=0 early_talker=0 mail=\d+$/m,
		'the end of the log has the sums');
};

subtest 'a small limit' => sub {
	my $proxy = TestProxy->start("max_connections 1\nlistener front { listen 127.0.0.1:0; backend inner }\n$back");
	my $c = taken($proxy);

	is($c->send_message, 250, 'has no eighth to keep free: mail passes');
	is(told($proxy), $full, 'and a second connection is refused');
	$c->quit;
	ok(is_taken_again($proxy), 'until the first is gone');
};

subtest 'one listener' => sub {
	my $proxy = TestProxy->start(<<"CONF");
listener one { listen 127.0.0.1:0; backend inner; max_connections 3 }
listener two { listen 127.0.0.1:0; backend inner }
$back
CONF
	my @clients = map { taken($proxy, 'one') } 1 .. 3;

	is(told($proxy, 'one'), $full, 'its own limit refuses a fourth');
	ok($proxy->wait_log(qr/ listener=one refused=max_connections$/m), 'the log says where');
	unlike($proxy->log, qr/ overload /, 'this is no overload of all');
	like(told($proxy, 'two'), qr/^220/, 'the other listener has room');
	is($clients[2]->send_message, 250, 'mail is not put off');
	$clients[0]->reset;
	ok(is_taken_again($proxy, 'one'), 'one that is reset gives its place back');
};

subtest 'one client' => sub {
	my $proxy = TestProxy->start(<<"CONF");
listener one { listen 127.0.0.1:0 unix:%d/in; backend inner; max_per_client 2; trusted 127.0.1.0/24 192.0.2.1 }
listener two { listen 127.0.0.1:0; backend inner; max_per_client 2 }
$back
CONF
	my ($tcp) = $proxy->log =~ /listener=one address=(127\S+)/;
	my @clients = map { SmtpClient->connect($tcp, local => $_) } ('127.0.0.2') x 2, '127.0.0.3';
	my $says = sub { my ($addr, @from) = @_; return SmtpClient->new($addr, @from ? (local => @from) : ())->read_reply->raw };

	is($says->($tcp, '127.0.0.2'), "$crowd\r\n", 'a third connection of one address is refused');
	ok($proxy->wait_log(qr/ connect client=127\.0\.0\.2:\d+ listener=one refused=max_per_client$/m), 'the log says why');
	push @clients, SmtpClient->connect($tcp, local => '127.0.0.3');
	ok($clients[-1], 'another address has its own two');
	is($says->($tcp, '127.0.0.3'), "$crowd\r\n", 'and no more');
	push @clients, map { SmtpClient->connect($tcp, local => '127.0.1.9') } 1 .. 5;
	is($clients[-1]->greeting, 220, 'one that is trusted may have any number');
	push @clients, map { SmtpClient->connect($proxy->dir . '/in') } 1 .. 5;
	is($clients[-1]->greeting, 220, 'those of a Unix socket too');
	push @clients, map { taken($proxy, 'two', '127.0.0.2') } 1 .. 2;
	is(told($proxy, 'two', '127.0.0.2'), $crowd, 'each listener counts for itself');
	$clients[0]->quit;
	ok(wait_until { $says->($tcp, '127.0.0.2') =~ /^220/ }, 'one that went makes room for the next');
	for (1 .. 300) {
		SmtpClient->new($tcp, local => "127.2.0.$_")->close if $_ < 255;
		SmtpClient->new($tcp, local => '127.0.0.9')->close;
	}
	ok(wait_until { $says->($tcp, '127.0.0.9') =~ /^220/ }, 'those that come and go leave nothing behind');
};

subtest 'IPv6' => sub {
	require IO::Socket::IP;
	IO::Socket::IP->new(LocalHost => '::1', LocalPort => 0, Listen => 1) or plan skip_all => 'this machine has no IPv6';
	my $proxy = TestProxy->start("listener front { listen [::1]:0; backend inner; max_per_client 1 }\n$back");
	my @socks;
	my $talk = sub {
		push @socks, IO::Socket::IP->new(PeerHost => '::1', PeerPort => $proxy->port);
		return scalar readline $socks[-1];
	};
	like($talk->(), qr/^220 /, 'one connection is taken');
	is($talk->(), "$crowd\r\n", 'and not a second');
};

subtest 'who may not speak takes no place' => sub {
	my $proxy = TestProxy->start(
		"max_connections 2\nlistener front { listen 127.0.0.1:0; backend inner; clients 127.0.0.2 }\n$back");

	like(told($proxy, 'front', '127.0.0.1'), qr/^554 5\.7\.1 /, 'a stranger is told so') for 1 .. 4;
	my @clients = map { taken($proxy, 'front', '127.0.0.2') } 1 .. 2;
	like(told($proxy, 'front', '127.0.0.1'), qr/^554 5\.7\.1 /, 'also when all places are taken');
	is(told($proxy, 'front', '127.0.0.2'), $full, 'which the others are told');
};

subtest 'auto' => sub {
	my $conf = "workers 2\nlistener front { listen 127.0.0.1:0; backend inner }\nbackend inner { hosts 127.0.0.1:1 }\n";
	# 128 for what is turned away, 32 of workers, 3 of the listener, 20 of the back-end; 8/15 of the other 841
	my $proxy = TestProxy->start($conf, limit => '-n 1024');
	ok($proxy->wait_log(qr/ ready .*max_connections=448 /), 'is reckoned from the limit of descriptors');
	unlike($proxy->log, qr/ limits /, 'which then is high enough');
	$proxy = TestProxy->start($conf, limit => '-S -n 200');
	ok($proxy->wait_log(qr/ ready .*max_connections=\d{3,} /), 'the soft limit is raised first');
	$proxy = TestProxy->start("max_connections 1000\n$conf", limit => '-n 1024');
	ok($proxy->wait_log(qr/^warn a limits err="fewer descriptors than may be needed: .*" max_connections=1000 needs=1930 has=1024$/m),
		'a number that is too high for the limit gets a warning');
};

done_testing;
