#!/usr/bin/perl
# Our Received line, and what it is for: mail that comes back to us does not go round for ever.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR};

my $sink = SmtpSink->start;
my $to_sink = "backend inner { hosts @{[ $sink->addr ]} }\n";
my $content = "Message-ID: <loop\@example.net>\r\nSubject: x\r\n\r\nbody\r\n";

sub last_content { return ($sink->messages)[-1]{content} }

subtest 'our Received line' => sub {
	my $proxy = TestProxy->start("hostname gate.example.org\nlistener front { listen 127.0.0.1:0; backend inner }\n$to_sink");
	my $c = $proxy->client;

	is($c->send_message(content => $content), 250, 'a message to one recipient');
	my $line = qr/Received: from client\.example \(\[127\.0\.0\.1\]\)\r\n\tby gate\.example\.org \(Postern\) with ESMTP id (\S+)/;
	my $date = qr/[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}/;
	like(last_content(), qr/\A$line\r\n\tfor <rcpt\@example\.org>; $date\r\nMessage-ID: /, 'says whom it is for');
	my ($id) = last_content() =~ $line;
	is(last_content() =~ s/\A$line.*?\r\n(?=Message)//sr, $content, 'what follows is the message as it was');
	my $summary = $proxy->wait_summary;
	like($id, qr/^\Q$summary->{s}\E-1\./, 'its id is the one of the log');
	is($c->send_message(content => $content, to => [ 'a@example.org', 'b@example.org' ]), 250, 'to two recipients');
	like(last_content(), qr/\A$line;\r\n\t$date\r\nMessage-ID: /, 'none of them is told of the other');
	$c = $proxy->client;
	$c->helo('old.example');
	$c->{caps} = [];
	is($c->send_message(content => $content), 250, 'from a client that says HELO');
	like(last_content(), qr/\AReceived: from old\.example .*\r\n\tby \S+ \(Postern\) with SMTP id /, 'with SMTP');
};

subtest 'received no' => sub {
	my $proxy = TestProxy->start("listener front { listen 127.0.0.1:0; backend inner; received no }\n$to_sink");

	is($proxy->client->send_message(content => $content), 250, 'a message');
	is(last_content(), $content, 'is passed on octet for octet');
};

subtest 'max_hops' => sub {
	my $proxy = TestProxy->start("listener front { listen 127.0.0.1:0; backend inner; max_hops 4 }\n$to_sink");
	my $c = $proxy->client;
	my $hop = "Received: from a by b\r\n\twith SMTP\r\n";

	is($c->send_message(content => $hop x 4 . $content), 250, 'as many as allowed pass');
	my $reply = $c->send_message(content => $hop x 5 . $content);
	is($reply, 554, 'one more is a loop');
	is($reply->text, '5.4.6 mail loop: 5 Received lines (4 allowed), 0 of them ours (3 allowed)', 'and the reply counts them');
	is($c->send_message(content => "RECEIVED: x\r\n" x 5 . $content), 554, 'whatever their case');
	is($c->send_message(content => "Received : x\r\n" x 5 . $content), 554, 'and with the blank that some put there');
	is($c->send_message(content => $content . $hop x 5), 250, 'in the body they do not count');
	is($c->send_message(content => "Received-SPF: pass\r\nX-Received: x\r\n" x 5 . $content), 250, 'nor what only looks alike');
};

for my $envelope ('early', 'late') {
	subtest "a listener whose back-end is itself, envelope $envelope" => sub {
		my $port = free_port();
		my $proxy = TestProxy->start(<<"CONF");
workers 2
listener front { listen 127.0.0.1:$port; backend self; envelope $envelope; budget 20s; final_reserve 2s }
backend self { hosts 127.0.0.1:$port; max_connections 10 }
CONF
		my $c = $proxy->client(undef, timeout => 30);
		my $reply = $c->send_message(content => $content);

		is($reply, 554, 'the front gets a refusal, soon');
		like($reply->text, qr/^5\.4\.6 mail loop: 4 Received lines \(50 allowed\), 4 of them ours \(3 allowed\)$/,
			'after three passes');
		is(scalar(() = $proxy->log =~ / loop hops=\d+ passes=\d+/g), 1, 'one warning is in the log');
		ok(wait_until { my @lines = $proxy->summaries; @lines >= 5 && !grep { ($_->{code} || 554) != 554 } @lines },
			'each of the transactions has its line');
		is($c->noop, 250, 'the session goes on');
		$reply = $c->send_message(content => $content);
		is($reply, 554, 'the next message ends the same');
	};
}

subtest 'two listeners in a row' => sub {
	my $port = free_port();
	my $proxy = TestProxy->start(<<"CONF");
listener one { listen 127.0.0.1:0; backend next }
listener two { listen 127.0.0.1:$port; backend inner }
backend next { hosts 127.0.0.1:$port }
$to_sink
CONF

	is($proxy->client('one')->send_message(content => $content), 250, 'are no loop');
	my @ids = last_content() =~ /\(Postern\) with ESMTP id \S+?\.(\S+)/g;
	is(scalar @ids, 2, 'both put their line in front');
	isnt($ids[0], $ids[1], 'each with a token of its own');
	my $again = last_content();
	is($proxy->client('one')->send_message(content => $again), 250, 'a message may come back') or return;
	is($proxy->client('one')->send_message(content => last_content()), 250, 'and once more');
	is($proxy->client('one')->send_message(content => last_content()), 250, 'each token is counted by itself');
	is($proxy->client('one')->send_message(content => last_content()), 554, 'then it is a loop');
};

subtest 'a token that others put there' => sub {
	my $proxy = TestProxy->start("hostname gate.example.org\nlistener front { listen 127.0.0.1:0; backend inner }\n$to_sink");
	my $other = TestProxy->start("hostname other.example.org\nlistener front { listen 127.0.0.1:0; backend inner }\n$to_sink");

	my $text = $content;
	for (1 .. 4) {
		is($proxy->client->send_message(content => $text), 250, "pass $_ of one instance") if $_ <= 3;
		$text = last_content() if $_ <= 3;
	}
	is($other->client->send_message(content => $text), 250, 'another instance does not take them for its own');
};

done_testing;
