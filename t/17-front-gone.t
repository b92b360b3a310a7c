#!/usr/bin/perl
# The front goes away: before the dot has left nothing is delivered, after it the result is awaited.
use strict;
use warnings;
use Test::More;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

my $BIG = ('0123456789' x 7 . "\r\n") x 200_000;

sub start
{
	my ($sink, $listener, $envelope) = @_;
	my $backend = ($envelope // '') =~ /BDAT/ ? 'chunking yes' : '';
	my $proxy = TestProxy->start(<<"CONF");
workers 1
listener early { listen 127.0.0.1:0; backend inner; $listener }
listener late { listen 127.0.0.1:0; backend inner; envelope late; $listener }
backend inner { hosts @{[ $sink->addr ]}; max_connections 1; $backend }
CONF
	# It connects at its start; from then on that connection is an idle one.
	$proxy->wait_log(qr/ state=up /) or die 'the back-end was not found';
	return $proxy;
}

# What a client sends up to a point. Early: replies that do not come are not waited for.
my %SENT = (
	nothing => sub { },
	ehlo => sub { $_[0]->ehlo },
	'half a command' => sub { $_[0]->ehlo; $_[0]->send('MAIL FROM:<a@exam') },
	mail => sub { $_[0]->ehlo; $_[0]->send("MAIL FROM:<a\@example.net>\r\n") },
	rcpt => sub { $SENT::mail->($_[0]); $_[0]->read_reply; $_[0]->send("RCPT TO:<b\@example.org>\r\n") },
	data => sub { $SENT::rcpt->($_[0]); $_[0]->read_reply; $_[0]->data },
	'the header' => sub { $SENT::data->($_[0]); $_[0]->send("Subject: lost\r\n\r\n") },
	'half the content' => sub { $SENT::header->($_[0]); $_[0]->send("text\r\nand half a li") },
	'all but the dot' => sub { $SENT::header->($_[0]); $_[0]->send("text\r\n") },
	'half the dot' => sub { $SENT::header->($_[0]); $_[0]->send("text\r\n.\r") },
	'the dot' => sub { $SENT::header->($_[0]); $_[0]->send("text\r\n.\r\n") },
	'much content and the dot' => sub { $SENT::header->($_[0]); $_[0]->send("$BIG.\r\n") },
	'one of two chunks' => sub { $SENT::rcpt->($_[0]); $_[0]->read_reply; $_[0]->send("BDAT 4\r\ntextBDAT 4 LAST\r\nte") },
	'an empty chunk' => sub { $SENT::rcpt->($_[0]); $_[0]->read_reply; $_[0]->send("BDAT 4\r\ntextBDAT 0") },
);
{
	no warnings 'once';
	($SENT::mail, $SENT::rcpt, $SENT::data, $SENT::header) = @SENT{ qw(mail rcpt data), 'the header' };
}

my %LEAVES = (
	'resets' => sub { $_[0]->reset },
	'closes' => sub { $_[0]->close },
	'half-closes' => sub { $_[0]->half_close },
);

# A case speaks of "early" and "late", and of "early, BDAT" where the back-end gets content so.
sub client
{
	my ($proxy, $envelope) = @_;

	return $proxy->client($envelope =~ s/,.*//r);
}

# Behind a pipelined envelope content does not go by BDAT.
sub caps { return $_[0] =~ /BDAT/ ? (caps => ['SIZE 104857600', '8BITMIME', 'CHUNKING']) : () }

sub held { return { reply => $_[0], wait => 'go' } }

# what the client has sent, envelope, what the back-end holds back, what shows that it does
my @BEFORE = (
	(map { [$_, 'early', {}, undef], [$_, 'late', {}, undef] } 'nothing', 'ehlo', 'half a command', 'the header',
		'half the content', 'all but the dot', 'half the dot', 'one of two chunks', 'an empty chunk'),
	['mail', 'early', { mail => held('250 ok') }, qr/waits go/],
	['mail', 'early', { mail => held('550 5.1.8 no') }, qr/waits go/],
	['rcpt', 'early', { rcpt => held('250 ok') }, qr/waits go/],
	['data', 'early', {}, undef],
	['the dot', 'early', { data => held('354 go') }, qr/waits go/],
	['the dot', 'late', { mail => held('250 ok') }, qr/waits go/],
	['the dot', 'late', { rcpt => held('250 ok') }, qr/waits go/],
	['the dot', 'late', { data => held('354 go') }, qr/waits go/],
	['much content and the dot', 'early', { body => { raw => '', wait => 'go' } }, qr/waits go/],
	['much content and the dot', 'late', { body => { raw => '', wait => 'go' } }, qr/waits go/],
	['the dot', 'late, BDAT', { mail => held('250 ok') }, qr/waits go/],
	['the dot', 'late, BDAT', { rcpt => held('250 ok') }, qr/waits go/],
	(map { ['much content and the dot', $_, { body => { raw => '', wait => 'go' } }, qr/waits go/],
		['much content and the dot', $_, { bdat => held('250 ok') }, qr/line BDAT \d+\n.*waits go/s],
		['much content and the dot', $_, { bdat => held('554 5.6.0 no') }, qr/waits go/] } 'early, BDAT', 'late, BDAT'),
);

for my $case (@BEFORE) {
	my ($sent, $envelope, $script, $event) = @$case;
	my ($held) = keys %$script;

	subtest "$envelope, after $sent" . ($held ? ", $held unanswered" : '') => sub {
		for my $how (sort keys %LEAVES) {
			my $sink = SmtpSink->start(caps($envelope), %$script);
			my $proxy = start($sink, '', $envelope);
			my $c = client($proxy, $envelope);

			$SENT{$sent}->($c);
			ok $sink->wait_event($event), "$how: the back-end is there" if $event;
			$LEAVES{$how}->($c);
			ok $proxy->wait_log(qr/ disconnect .*why=(?:eof|broken)/), "$how: the session ends";
			$sink->release('go');
			ok $sink->wait_event(qr/line (?:RSET|QUIT)| end /), "$how: the back-end is let go at once"
			    if $sink->events =~ /line MAIL/;
			$sink->script(map { $_ => $_ eq 'body' ? undef : $_ eq 'data' ? '354 go' : '250 ok' } keys %$script);
			is $proxy->client($_)->send_message(content => "Subject: next\r\n\r\nx\r\n"), 250,
			    "$how: the next message passes, $_" for qw(late early);
			is scalar(grep { $_->{content} !~ /^Subject: next\r$/m } $sink->messages), 0, "$how: nothing was delivered";
			is $sink->count, 2, "$how: but the next";
			unlike $proxy->log, qr/front gone, delivered/, "$how: and the log does not say so";
			unlike $sink->events, qr/line BDAT 0 LAST/, "$how: no BDAT LAST has left";
		}
	};
}

subtest 'while it waits for a connection' => sub {
	for my $how (sort keys %LEAVES) {
		my $sink = SmtpSink->start(final => [held('250 ok'), '250 ok']);
		my $proxy = start($sink, '');
		my ($first, $second) = map { $proxy->client('late') } 1, 2;

		$SENT{'the dot'}->($first);
		ok $sink->wait_event(qr/waits go/), "$how: the connection is in use";
		$SENT{'the dot'}->($second);
		$LEAVES{$how}->($second);
		ok $proxy->wait_log(qr/ disconnect .*why=(?:eof|broken)/), "$how: the session ends";
		$sink->release('go');
		is $first->read_reply, 250, "$how: the first has its answer";
		is $proxy->client('late')->send_message, 250, "$how: the next message passes";
		is $sink->count, 2, "$how: and that is all";
	}
};

subtest 'while the back-end is connected to' => sub {
	for my $how (sort keys %LEAVES) {
		my $sink = SmtpSink->start(greeting => ['421 4.3.2 not yet', held('220 sink.example')]);
		my $proxy = TestProxy->start(<<"CONF");
listener late { listen 127.0.0.1:0; backend inner; envelope late }
backend inner { hosts @{[ $sink->addr ]}; max_connections 1 }
CONF
		ok $proxy->wait_log(qr/ backend .*not yet/), "$how: no connection is there";
		my $c = $proxy->client('late');

		$SENT{'the dot'}->($c);
		ok $sink->wait_event(qr/waits go/), "$how: the greeting is awaited";
		$LEAVES{$how}->($c);
		ok $proxy->wait_log(qr/ disconnect .*why=(?:eof|broken)/), "$how: the session ends";
		$sink->release('go');
		is $proxy->client('late')->send_message, 250, "$how: the next message passes";
		is $sink->count, 1, "$how: and that is all";
		is $sink->connections, 2, "$how: over the connection that was being made";
	}
};

# ---- after the dot -------------------------------------------------------------------------

for my $case (['early', 'the dot'], ['late', 'the dot'], map { [$_, 'the dot'], [$_, 'much content and the dot'] }
	'early, BDAT', 'late, BDAT') {
	my ($envelope, $sent) = @$case;

	for my $how (sort keys %LEAVES) {
		subtest "$envelope: it $how after $sent has left" => sub {
			my $sink = SmtpSink->start(caps($envelope), final => held('250 2.0.0 Ok: queued as LATER'));
			my $proxy = start($sink, 'budget 20s; final_reserve 1s', $envelope);
			my $c = client($proxy, $envelope);

			$SENT{$sent}->($c);
			ok $sink->wait_event(qr/waits go/), 'the back-end has it all';
			$LEAVES{$how}->($c);
			ok $proxy->wait_log(qr/ disconnect .*why=(?:eof|broken)/), 'the session ends';
			is scalar($proxy->summaries), 0, 'but not the transaction';
			$sink->release('go');
			my $msg = $proxy->wait_summary(1);
			is $msg->{note}, 'front gone, delivered', 'the summary line says that it was delivered';
			like $msg->{reply}, qr/\A250 .*LATER/, 'with the reply of the back-end';
			like $msg->{why}, qr/\A(?:eof|broken)\z/, 'and why nobody heard of it';
			is $sink->count, 1, 'once';
			is client($proxy, $envelope)->send_message, 250, 'the next message passes';
			is $sink->connections, 1, 'over the same connection';
		};
	}
	subtest "$envelope: the back-end refuses $sent that nobody waits for" => sub {
		for my $final ('554 5.7.1 no', '451 4.7.1 later', '421 4.3.2 bye', 'close', 'rst') {
			my $held = $final =~ /\d/ ? held($final) : { then => $final, wait => 'go' };
			my $sink = SmtpSink->start(final => [$held, '250 ok']);
			my $proxy = start($sink, '', $envelope);
			my $c = client($proxy, $envelope);

			$SENT{$sent}->($c);
			ok $sink->wait_event(qr/waits go/), "$final: the back-end has it all";
			$c->close;
			ok $proxy->wait_log(qr/ disconnect .*why=(?:eof|broken)/), "$final: the session ends";
			$sink->release('go');
			is $proxy->wait_summary(1)->{note}, 'front gone', "$final: the summary line does not say delivered";
			is client($proxy, $envelope)->send_message, 250, "$final: the next message passes";
			is $sink->count, 1, "$final: and was the only one";
		}
	};
}

subtest 'the reply to nobody is awaited for final_timeout at most' => sub {
	my $sink = SmtpSink->start(final => ['silent', '250 ok']);
	my $proxy = TestProxy->start(<<"CONF");
listener front { listen 127.0.0.1:0; backend inner }
backend inner { hosts @{[ $sink->addr ]}; max_connections 1; final_timeout 500ms }
CONF
	my $c = $proxy->client;

	$SENT{'the dot'}->($c);
	ok $sink->wait_event(qr/txn /), 'the back-end has it all';
	$c->close;
	my $msg = $proxy->wait_summary(1);
	is $msg->{note}, 'front gone', 'then the transaction is over';
	is $proxy->client->send_message, 250, 'and the next message passes';
};

# ---- QUIT is no going away -----------------------------------------------------------------

for my $envelope (qw(early late)) {
	for my $half_close (0, 1) {
		my $with = $half_close ? 'QUIT and half-close' : 'QUIT';

		subtest "$envelope: $with behind the dot are served to the end" => sub {
			for my $packets (['.', "\r\nQUIT\r\n"], [".\r\nQUIT\r\n"], [".\r\n", "QUIT\r\n"], [".\r\nQU", "IT\r\n"],
				[".\r\n", "NOOP\r\nQUIT\r\n"]) {
				my $sink = SmtpSink->start(final => held('250 2.0.0 Ok: queued as MINE'));
				my $proxy = start($sink, '');
				my $c = $proxy->client($envelope);

				$SENT{'the header'}->($c);
				$c->send_pieces(@$packets);
				$c->half_close if $half_close;
				ok $sink->wait_event(qr/waits go/), 'the back-end has it all';
				$sink->release('go');
				like $c->read_reply->text, qr/queued as MINE/, 'the answer comes';
				is $c->read_reply, 250, 'NOOP is answered' if "@$packets" =~ /NOOP/;
				is $c->read_reply, 221, 'and the one to QUIT';
				ok $c->wait_eof, 'and the end';
				is $sink->count, 1, 'the message was delivered';
				is $proxy->wait_summary(1)->{note} // '-', '-', 'and nobody is missed';
			}
		};
	}
}

subtest 'half-close behind QUIT while the envelope is being answered' => sub {
	my $sink = SmtpSink->start(mail => held('250 ok'));
	my $proxy = start($sink, '');
	my $c = $proxy->client('early');

	$c->ehlo;
	$c->send("MAIL FROM:<a\@example.net>\r\nRCPT TO:<b\@example.org>\r\nQUIT\r\n");
	$c->half_close;
	ok $sink->wait_event(qr/waits go/), 'MAIL is under way';
	$sink->release('go');
	is join(' ', map { $c->read_reply->code } 1 .. 3), '250 250 221', 'all is answered';
	ok $c->wait_eof, 'then comes the end';
	is $proxy->client('late')->send_message, 250, 'the next message passes';
	is $sink->count, 1, 'and was the only one';
};

done_testing;
