#!/usr/bin/perl
# The peers of the other tests do what they say: a liar that does not lie would hide faults.
use strict;
use warnings;
use Test::More;
use SmtpClient;
use SmtpSink;
use TestUtil;

my $content = "Subject: x\r\n\r\n.dot\r\n..two\r\nend\r\n";
my $sink = SmtpSink->start(
	rcpt  => ['250 ok', '550 5.1.1 no', '250 ok'],
	final => ['250 fine', '451 later', { raw => '250 2.0', then => 'close' }, 'rst',
		{ reply => '250 slow', wait => 'word' }],
);

sub in_data
{
	my $c = SmtpClient->connect($sink->addr);

	$c->ehlo;
	$c->mail('a@b');
	$c->rcpt('c@d');
	is($c->data, 354, 'DATA is answered');
	return $c;
}

subtest 'replies follow the script' => sub {
	my $c = SmtpClient->connect($sink->addr);

	is($c->ehlo, 250, 'EHLO');
	ok($c->has('PIPELINING'), 'the EHLO words are offered');
	is($c->send_message(content => $content), 250, 'the first message is taken');
	is($sink->count, 1, 'and counted');
	is($sink->txn(0)->{content}, $content, 'its content is kept octet by octet');
	is($c->send_message(content => $content), 550, 'the second recipient is refused');
	is($c->send_message(content => $content, pipeline => 1), 451, 'the second end of data fails');
	is(($sink->txns)[-1]{ended}, 'refused', 'and is kept as refused');
	my $reply = $c->send_message(content => $content);
	is($reply, 0, 'half a reply is none');
	is($reply->raw, '250 2.0', 'but its octets were seen');
};

subtest 'a connection can end with RST' => sub {
	my $c = SmtpClient->connect($sink->addr);

	is($c->send_message, 0, 'no reply');
	like($c->error, qr/reset/, 'but a reset');
};

subtest 'a reply can wait for a word' => sub {
	my $c = in_data();

	$c->send_split("a\r\n.\r\n", 1);
	ok($sink->wait_event(qr/waits word/), 'it waits');
	ok($c->is_silent, 'and says nothing');
	$sink->release('word');
	is($c->read_reply, 250, 'until the word comes');
};

subtest 'the end of data is found at any split' => sub {
	for my $size (1 .. 7) {
		my $c = in_data();
		$c->send_split("a\r\n..b\r\n\n.\n\r\n.\r\n", $size);
		is($c->read_reply, 250, "pieces of $size: one reply");
		is(($sink->txns)[-1]{content}, "a\r\n.b\r\n\n.\n\r\n", "pieces of $size: same content");
	}
};

subtest 'an early reply comes before the content ends' => sub {
	$sink->script(body => { reply => '554 early', at => 10, instead => 1 });
	my $c = in_data();

	$c->send('0123456789ab');
	is($c->read_reply, 554, 'early');
	$c->send("\r\n.\r\n");
	is($c->noop, 250, 'and none at the end');
};

subtest 'a reply can have no end' => sub {
	$sink->script(ehlo => { raw => "250-x\r\n", endless => 1 });
	my $c = SmtpClient->connect($sink->addr);

	$c->send("EHLO x\r\n");
	ok(wait_until { $c->fill; length $c->pending > 100_000 }, 'it goes on and on');
};

subtest 'it can be away and come back' => sub {
	$sink->stop;
	ok(!eval { SmtpClient->connect($sink->addr) }, 'away: refused');
	$sink->restart(ehlo => "250 sink.example\nCHUNKING", body => undef, final => '250 new');
	my $c = SmtpClient->connect($sink->addr);
	my $before = $sink->count;
	$c->ehlo;
	$c->mail('a@b');
	$c->rcpt('c@d');
	is($c->bdat("hello.\r\n.x", 3), 250, 'back: BDAT is taken');
	is(($sink->txns)[-1]{content}, "hello.\r\n.x", 'without dots added or taken');
	is($sink->count, $before + 1, 'and what was recorded before is still there');
	$c->mail('x@y');
	$c->reset;
	ok($sink->wait_event(qr/end rst/), 'a reset of ours is told from an end');
};

done_testing;
