#!/usr/bin/perl
# The greeting can be held back: who does not wait for it is no mail server.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use SmtpClient;
use TestProxy;
use TestUtil;
use Time::HiRes qw(time sleep);

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR};

my $proxy = TestProxy->start(<<"CONF");
listener plain   { listen 127.0.0.1:0; backend inner }
listener held    { listen 127.0.0.1:0; backend inner; early_talker 1s; idle_timeout 20s }
listener patient { listen 127.0.0.1:0; backend inner; early_talker 20s }
listener closed  { listen 127.0.0.1:0; backend inner; early_talker 20s; clients 192.0.2.1 }
backend  inner   { discard yes }
CONF

my $told = "554 5.5.0 clients must wait for the greeting\r\n";

# What a client hears that sends this at once, up to the end of the connection.
sub hears
{
	my ($octets, $listener) = @_;
	my $c = SmtpClient->new($proxy->addr($listener));

	$c->send($octets);
	return $c->wait_eof ? $c->pending : 'the connection stays';
}

subtest 'who waits' => sub {
	my $begin = time;
	my $c = SmtpClient->new($proxy->addr('held'));

	ok($c->is_silent(0.1), 'hears nothing at first');
	is($c->read_reply, 220, 'then gets the greeting');
	cmp_ok(time - $begin, '>=', 0.99, 'not before its time');
	is($c->send_message, 250, 'and mail passes');
	is($c->quit, 221, 'to the end of the session');
	unlike($proxy->log, qr/ early_talker /, 'nobody is blamed');
};

subtest 'who does not wait' => sub {
	my @early = ([ 'one octet', 'E' ], [ 'a command', "EHLO x.example\r\n" ], [ 'a line end', "\r\n" ],
		[ 'all of a session', "EHLO x.example\r\nMAIL FROM:<a\@example.net>\r\nRCPT TO:<b\@example.org>\r\nDATA\r\n" ],
		[ 'HTTP', "GET / HTTP/1.0\r\n\r\n" ], [ 'NUL', "\0" ], [ 'a flood', 'x' x 1_000_000 ]);

	for my $case (@early) {
		my ($name, $octets) = @$case;
		my $begin = time;
		is(hears($octets, 'patient'), $told, "$name: is refused, and nothing is obeyed");
		cmp_ok(time - $begin, '<', 15, "$name: at once");
	}
	ok($proxy->wait_log(qr/ early_talker octets=1$/m), 'the log tells of it');
	ok($proxy->wait_log(qr/ disconnect .*listener=patient why=early txns=0$/m), 'and why the session ended');
	is(hears('E', 'held'), $told, 'also on a listener with a short wait');
};

subtest 'whoever leaves before' => sub {
	for my $how ('close', 'reset') {
		my $c = SmtpClient->new($proxy->addr('patient'));
		$proxy->wait_log(qr/ connect client=127\.0\.0\.1:@{[ $c->sock->sockport ]} /);
		$c->$how;
	}
	ok($proxy->wait_log(qr/ disconnect .*listener=patient why=eof /), 'has gone');
	ok($proxy->wait_log(qr/ disconnect .*listener=patient why=broken /), 'or is reset');
	is(scalar(() = $proxy->log =~ / early_talker /g), 8, 'but has not spoken as the 8 others');
};

subtest 'others' => sub {
	like(hears("QUIT\r\n", 'plain'), qr/\A220 .*\r\n221 .*\r\n\z/, 'without early_talker haste is no fault');
	my $begin = time;
	like(hears('', 'closed'), qr/\A554 5\.7\.1 /, 'who may not speak is told so');
	cmp_ok(time - $begin, '<', 15, 'without a wait');
};

subtest 'a stop' => sub {
	my $c = SmtpClient->new($proxy->addr('patient'));
	ok($c->is_silent(0.1), 'comes while somebody waits');
	$proxy->signal('TERM');
	like($c->read_reply->raw, qr/\A421 4\.3\.2 /, 'and is said instead of the greeting');
	ok(wait_until { !$proxy->is_running }, 'postern ends');
	is($proxy->{status}, 0, 'in good order');
	like($proxy->log, qr/ refused clients=1 max_connections=0 max_per_client=0 early_talker=8 mail=0$/m,
		'and has counted them');
};

done_testing;
