#!/usr/bin/perl
# Content must come at a least rate: pauses are allowed, trickling is not.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use SmtpSink;
use TestProxy;
use TestUtil;
use Time::HiRes qw(time sleep);

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR};

my $sink = SmtpSink->start;
my $proxy = TestProxy->start(<<"CONF");
listener rate { listen 127.0.0.1:0; backend inner; data_timeout 1s; min_rate 1000 }
listener any  { listen 127.0.0.1:0; backend inner; data_timeout 1s; min_rate 0 }
backend inner { hosts @{[ $sink->addr ]} }
CONF

# A message whose content comes by DATA or as one chunk, up to its end.
sub begun
{
	my ($listener, $how, $octets) = @_;
	my $c = $proxy->client($listener);

	$c->ehlo;
	$c->mail('a@example.net');
	$c->rcpt('b@example.org');
	if ($how eq 'DATA') {
		$c->data;
	} else {
		$c->send("BDAT $octets LAST\r\n");
	}
	return $c;
}

# Sends pieces of $size octets at so many octets per second until $total are sent or a reply came; the seconds
# it took.
sub feed
{
	my ($c, $total, $size, $rate) = @_;
	my ($begin, $sent) = (time, 0);

	while ($sent < $total) {
		my $ahead = $sent / $rate - (time - $begin);
		last unless $c->is_silent($ahead > 0 ? $ahead : 0);
		$c->send('x' x ($size - 2) . "\r\n");
		$sent += $size;
	}
	return time - $begin;
}

for my $how ('DATA', 'BDAT') {
	subtest "$how that trickles" => sub {
		my $count = $sink->count;
		my $c = begun('rate', $how, 1_000_000);
		my $seconds = feed($c, 20_000, 10, 100);
		my $reply = $c->read_reply;

		is($reply->raw =~ s/\S+ content/HOST content/r, "421 4.4.2 HOST content comes too slowly\r\n", 'is cut');
		ok($c->wait_eof, 'and the connection ends');
		cmp_ok($seconds, '>=', 0.9, 'not before data_timeout');
		cmp_ok($seconds, '<', 15, 'and long before it would have come to an end');
		ok($proxy->wait_log(qr/ timeout state=body$/m), 'the log tells of it');
		is($sink->count, $count, 'nothing of it is delivered');
	};

	subtest "$how that comes fast enough" => sub {
		my $c = begun('rate', $how, 12_000);
		my $seconds = feed($c, 12_000, 200, 4000);

		$c->send(".\r\n") if $how eq 'DATA';
		is($c->read_reply, 250, 'is taken');
		cmp_ok($seconds, '>=', 2, 'however long it takes');
	};
}

subtest 'pauses' => sub {
	my $c = begun('rate', 'DATA');

	for (1 .. 3) {
		sleep 0.5;
		$c->send('x' x 998 . "\r\n");
	}
	$c->send(".\r\n");
	is($c->read_reply, 250, 'are made good by what comes behind them');
	$c = begun('rate', 'DATA');
	$c->send('x' x 998 . "\r\n") for 1 .. 50;
	my $begin = time;
	$c->expect(421);
	cmp_ok(time - $begin, '<', 8, 'but no one is longer than data_timeout, whatever was sent before');
};

subtest 'chunks' => sub {
	my $c = begun('rate', 'BDAT', 0);

	# Between chunks command_timeout holds; only waiting inside them is spent.
	is($c->read_reply, 250, 'an empty message is taken');
	$c->mail('a@example.net');
	$c->rcpt('b@example.org');
	$c->send("BDAT 2\r\nx\n"), $c->expect(250), sleep 0.4 for 1 .. 4;
	$c->send("BDAT 0 LAST\r\n");
	is($c->read_reply, 250, 'time between chunks is not spent');
	$c->mail('a@example.net');
	$c->rcpt('b@example.org');
	my $reply;
	for (1 .. 40) {
		$c->send("BDAT 2\r\nx");
		$c->is_silent(0.2) or last;
		$c->send("\n");
		$reply = $c->read_reply;
		last if $reply != 250;
	}
	$reply = $c->read_reply if $reply == 250;
	is($reply, 421, 'time inside them is, over all chunks of a message');
};

subtest 'without min_rate' => sub {
	my $c = begun('any', 'DATA');
	my $seconds = feed($c, 100, 4, 40);

	$c->send(".\r\n");
	is($c->read_reply, 250, 'any octet is enough');
	cmp_ok($seconds, '>=', 2, 'however long it takes');
	$c = begun('any', 'DATA');
	$c->send("x\r\n");
	is($c->read_reply, 421, 'but silence is not');
};

is($proxy->stop, 0, 'postern ends in good order');
done_testing;
