#!/usr/bin/perl
# The envelope early and late: holding, giving it anew, and the budget up to the dot.
use strict;
use warnings;
use Test::More;
use Time::HiRes 'time';
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

my $BIG = ('0123456789' x 7 . "\r\n") x 200_000;

sub start
{
	my ($sink, $listener, $backend, $more) = @_;
	my $inner = 'max_connections 1; ' . ($backend // '');
	my $proxy = TestProxy->start(<<"CONF" . ($more // ''));
workers 1
listener early { listen 127.0.0.1:0; backend inner; $listener }
listener late { listen 127.0.0.1:0; backend inner; envelope late; $listener }
backend inner { hosts @{[ $sink->addr ]}; $inner }
CONF
	# It connects at its start; from then on that connection is an idle one.
	$proxy->wait_log(qr/ state=up /) or die 'the back-end was not found';
	return $proxy;
}

sub held { return { reply => $_[0], wait => 'go' } }

# A session up to the recipients.
sub envelope
{
	my ($proxy, $listener, @rcpts) = @_;
	my $c = $proxy->client($listener);

	$c->ehlo;
	is $c->mail('a@example.net'), 250, 'MAIL';
	is $c->rcpt($_), 250, 'RCPT' for @rcpts;
	return $c;
}

sub content
{
	my ($c, $subject) = @_;

	is $c->data, 354, 'DATA';
	$c->send("Subject: $subject\r\n\r\ntext\r\n.\r\n");
	return $c->read_reply;
}

sub commands { return join ' ', map { /^(\S+)/ } $_[0]->commands }

# ---- early ---------------------------------------------------------------------------------

subtest 'early: the envelope is at the back-end before the content comes' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, '');
	my $c = envelope($proxy, 'early', 'b@example.org', 'c@example.org');

	is commands($sink), 'EHLO MAIL RCPT RCPT', 'as the front gives it';
	is content($c, 'one'), 250, 'the message passes';
	is commands($sink), 'EHLO MAIL RCPT RCPT DATA', 'and nothing is said twice';
};

subtest 'late: the back-end hears nothing before the content is there' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, '');
	my $c = envelope($proxy, 'late', 'b@example.org');

	is $c->data, 354, 'DATA';
	is commands($sink), 'EHLO', 'it is only known';
	$c->send("Subject: one\r\n\r\ntext\r\n.\r\n");
	is $c->read_reply, 250, 'the message passes';
	is commands($sink), 'EHLO MAIL RCPT DATA', 'then all is said';
};

subtest 'early_hold: a slow client gives its connection to others' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, 'early_hold 200ms');
	my $c = envelope($proxy, 'early', 'b@example.org', 'c@example.org');

	ok $sink->wait_event(qr/line RSET/), 'the envelope is taken back';
	is $proxy->client('early')->send_message(content => "Subject: other\r\n\r\n\r\n"), 250, 'another message passes';
	is content($c, 'slow'), 250, 'and then the slow one';
	my @messages = $sink->messages;
	is scalar(@messages), 2, 'each once';
	is_deeply $messages[1]{rcpt_ok}, ['TO:<b@example.org>', 'TO:<c@example.org>'], 'to all its recipients';
	is $sink->connections, 1, 'over one connection';
};

subtest 'early_hold: while content trickles in' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, 'early_hold 200ms');
	my $c = envelope($proxy, 'early', 'b@example.org');

	is $c->data, 354, 'DATA';
	$c->send("Subject: slow\r\n\r\nhalf a ");
	ok $sink->wait_event(qr/line RSET/), 'the envelope is taken back';
	$c->send("line\r\n.\r\n");
	is $c->read_reply, 250, 'and given again with the content';
	is $sink->count, 1, 'once';
};

subtest 'early_hold: behind MAIL' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, 'early_hold 200ms');
	my $c = envelope($proxy, 'early');

	ok $sink->wait_event(qr/line RSET/), 'the envelope is taken back';
	is $c->rcpt('b@example.org'), 250, 'RCPT is taken unasked';
	$sink->script(rcpt => "550 5.1.1 unknown\n5.1.1 really");
	is content($c, 'x')->raw, "550-5.1.1 unknown\r\n550 5.1.1 really\r\n", 'its refusal comes with the message';
	is $sink->count, 0, 'nothing is delivered';
	is $c->rset, 250, 'the session goes on';
};

subtest 'early_hold begins anew with each recipient' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, 'early_hold 2s');
	my $c = envelope($proxy, 'early');

	# Three seconds in all, but never two without a command.
	for (1 .. 10) {
		ok $c->is_silent(0.3), 'a pause';
		is $c->rcpt("$_\@example.org"), 250, 'RCPT';
	}
	is content($c, 'x'), 250, 'the message passes';
	unlike commands($sink), qr/RSET/, 'and was never taken back';
};

subtest 'early_hold: the chain takes longer' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, 'early_hold 200ms', '', "dummy slow { wait 500ms }\ndefault_chain slow\n");
	my $c = envelope($proxy, 'early', 'b@example.org');

	is content($c, 'x'), 250, 'the message passes';
	like commands($sink), qr/RSET.* MAIL RCPT DATA/, 'with its envelope given again';
	is $sink->count, 1, 'once';
};

# An early envelope lost for any other reason.
my %LOSSES = (
	'the back-end closes' => { rcpt => [{ reply => '250 ok', then => 'close' }, '250 ok'] },
	'the back-end resets' => { rcpt => [{ reply => '250 ok', then => 'rst' }, '250 ok'] },
	'the back-end says 421' => { rcpt => [{ raw => "250 ok\r\n421 4.3.2 bye\r\n", then => 'close' }, '250 ok'] },
	'the back-end says 421 at RSET' => { rset => '421 4.3.2 bye' },
	'the back-end is silent at RSET' => { rset => 'silent' },
);

for my $loss (sort keys %LOSSES) {
	subtest "early: $loss behind RCPT" => sub {
		my $sink = SmtpSink->start(%{ $LOSSES{$loss} });
		my $proxy = start($sink, 'early_hold 200ms', 'command_timeout 1s');
		my $c = envelope($proxy, 'early', 'b@example.org');

		ok $sink->wait_event($loss =~ /RSET/ ? qr/line RSET/ : qr/ end /), 'the envelope is lost';
		is content($c, 'x'), 250, 'the message passes';
		is $sink->count, 1, 'once';
		is $sink->connections, 2, 'over another connection';
	};
}

subtest 'early: a reply to a RCPT that never comes' => sub {
	my $sink = SmtpSink->start(rcpt => ['250 ok', 'silent', '250 ok']);
	my $proxy = start($sink, '', 'command_timeout 1s');
	my $c = envelope($proxy, 'early', 'b@example.org');

	is $c->rcpt('c@example.org'), 451, 'this recipient is to come again';
	is content($c, 'x'), 250, 'the message passes';
	is_deeply +($sink->messages)[0]{rcpt_ok}, ['TO:<b@example.org>'], 'to the other one';
};

subtest 'early: no connection is free' => sub {
	my $sink = SmtpSink->start(final => [held('250 ok'), '250 ok']);
	my $proxy = start($sink, '');
	my $first = envelope($proxy, 'early', 'a@example.org');

	is $first->data, 354, 'DATA';
	$first->send("Subject: first\r\n\r\n.\r\n");
	ok $sink->wait_event(qr/waits go/), 'the only one is in use';
	my $second = envelope($proxy, 'early', 'b@example.org');
	is $second->data, 354, 'the envelope of another message is taken all the same';
	$second->send("Subject: second\r\n\r\n.\r\n");
	$sink->release('go');
	is $_->read_reply, 250, 'both pass' for $first, $second;
	is $sink->count, 2, 'once';
};

subtest 'early: given again, the envelope is refused' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, 'early_hold 200ms');

	for my $step (qw(mail rcpt)) {
		my $c = envelope($proxy, 'early', 'b@example.org');
		my $before = () = $sink->events =~ /line RSET/g;
		my $held = wait_until { (() = $sink->events =~ /line RSET/g) > $before };
		ok $held, 'the envelope is taken back';
		$sink->script($step => '552 5.2.2 mailbox full');
		is content($c, 'x')->raw, "552 5.2.2 mailbox full\r\n", "$step: the front hears it at the end of data";
		$sink->script($step => '250 ok');
	}
	my $c = envelope($proxy, 'early', 'b@example.org', 'c@example.org');
	my $before = () = $sink->events =~ /line RSET/g;
	my $held = wait_until { (() = $sink->events =~ /line RSET/g) > $before };
	ok $held, 'the envelope is taken back';
	$sink->script(rcpt => ['250 ok', '552 5.2.2 mailbox full', '250 ok']);
	is content($c, 'x'), 451, 'by one of two: all come again';
	is $sink->count, 0, 'nothing was delivered';
	is $c->mail('a@example.net'), 250, 'and then';
	is $c->rcpt('b@example.org'), 250, 'the first is taken';
	is $c->rcpt('c@example.org'), 452, 'and the second comes alone';
};

subtest 'early: what the front gives up is given up' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, '');
	my $c = envelope($proxy, 'early', 'b@example.org');

	is $c->rset, 250, 'RSET';
	ok $sink->wait_event(qr/line RSET/), 'reaches the back-end';
	is $c->mail('b@example.net'), 250, 'MAIL';
	is $c->rcpt('b@example.org'), 250, 'RCPT';
	is $c->ehlo, 250, 'EHLO gives up, too';
	is $c->send_message, 250, 'and a message passes';
	is $sink->count, 1, 'once';
};

# ---- the budget ----------------------------------------------------------------------------

for my $step (qw(greeting mail rcpt)) {
	subtest "early: $step is unanswered until the budget is spent" => sub {
		my $right = $step eq 'greeting' ? '220 hello' : '250 ok';
		my $sink = SmtpSink->start($step eq 'greeting' ? (greeting => ['421 4.3.2 not yet', held($right)])
		    : ($step => held($right)));
		my $proxy = TestProxy->start(<<"CONF");
listener front { listen 127.0.0.1:0; backend inner; budget 1s; final_reserve 0s }
backend inner { hosts @{[ $sink->addr ]}; max_connections 1 }
CONF
		ok $proxy->wait_log(qr/ backend .*(?:not yet|state=up)/), 'the back-end was asked';
		my $c = $proxy->client;
		my $begin = time;

		$c->ehlo;
		my $reply = $c->mail('a@example.net');
		$reply = $c->rcpt('b@example.org') if $step eq 'rcpt';
		is $reply, 451, 'the command is to come again';
		cmp_ok time - $begin, '<', 3 * $TestUtil::PATIENCE, 'before the front loses patience';
		$sink->release('go');
		is $c->rset, 250, 'RSET';
		ok $sink->wait_event($step eq 'greeting' ? qr/line EHLO.*reply 250/s : qr/ end /), 'when the back-end is back';
		is $c->send_message, 250, 'mail passes';
		is $sink->count, 1, 'once';
		is $sink->connections, 2, $step eq 'greeting' ? 'over the same connection' : 'over a new connection';
	};
}

for my $at (qw(early/mail early/rcpt late/mail late/rcpt late/data)) {
	my ($envelope, $step) = split m{/}, $at;

	subtest "$envelope: a connection that never answers $step keeps nobody waiting" => sub {
		my $sink = SmtpSink->start($step => ['silent', $step eq 'data' ? '354 go' : '250 ok']);
		my $proxy = start($sink, 'budget 2s; final_reserve 0s', 'command_timeout 60s');
		my $c = $proxy->client($envelope);

		is $c->send_message(content => "Subject: first\r\n\r\n"), 451, 'the message is to come again';
		is $c->rset, 250, 'RSET';
		is $c->send_message(content => "Subject: next\r\n\r\n"), 250, 'the next one has the only place';
		is_deeply [map { $_->{content} =~ /^Subject: (.*)\r$/m } $sink->messages], ['next'], 'and is the only one';
		is scalar(grep { /^RSET/ } $sink->commands), 0, 'nothing was said behind the silence';
	};
}

for my $envelope (qw(early late)) {
	my @steps = $envelope eq 'early' ? qw(data body) : qw(mail rcpt data body);

	for my $step (@steps) {
		subtest "$envelope: $step is unanswered until the budget is spent" => sub {
			my $right = { data => '354 go', body => '' }->{$step} // '250 ok';
			my $sink = SmtpSink->start($step => $step eq 'body' ? { raw => '', wait => 'go' } : held($right));
			my $proxy = start($sink, 'budget 1s; final_reserve 0s');
			my $c = envelope($proxy, $envelope, 'b@example.org');

			is $c->data, 354, 'DATA';
			$c->send("Subject: x\r\n\r\n" . ($step eq 'body' ? $BIG : '') . ".\r\n");
			my $begin = time;
			my $reply = $c->read_reply;
			is $reply, 451, 'the message is to come again';
			is $reply->enhanced, '4.3.2', 'because we were too slow';
			cmp_ok time - $begin, '<', 4 * $TestUtil::PATIENCE, 'when the budget is spent';
			$sink->release('go');
			$sink->script($step => $step eq 'body' ? undef : $right);
			ok $sink->wait_event(qr/line RSET| end /), 'the back-end is let go';
			is $c->send_message(content => "Subject: next\r\n\r\n"), 250, 'the next message passes';
			is_deeply [map { $_->{content} =~ /^Subject: (.*)\r$/m } $sink->messages], ['next'], 'and is the only one';
		};
	}

	subtest "$envelope: the dot does not leave with less than final_reserve left" => sub {
		my $sink = SmtpSink->start(data => held('354 go'));
		my $proxy = start($sink, 'budget 6s; final_reserve 5s');
		my $c = envelope($proxy, $envelope, 'b@example.org');

		is $c->data, 354, 'DATA';
		$c->send("Subject: x\r\n\r\ntext\r\n.\r\n");
		ok $sink->wait_event(qr/waits go/), 'the back-end is slow';
		ok $c->is_silent(1.2), 'so that too little time is left';
		$sink->release('go');
		is $c->read_reply, 451, 'and its 354 comes too late';
		ok $sink->wait_event(qr/ end (?:eof|rst)/), 'the connection is closed';
		is $sink->count, 0, 'nothing is delivered';
		is scalar(() = $sink->events =~ /accepted|refused/g), 0, 'no dot has left';
	};

	subtest "$envelope: after the dot only the reply ends the wait" => sub {
		my $sink = SmtpSink->start(final => held('250 2.0.0 Ok: queued as LATE'));
		my $proxy = start($sink, 'budget 1s; final_reserve 0s');
		my $c = envelope($proxy, $envelope, 'b@example.org');

		is $c->data, 354, 'DATA';
		$c->send("Subject: x\r\n\r\ntext\r\n.\r\n");
		ok $sink->wait_event(qr/waits go/), 'the back-end has it all';
		ok $c->is_silent(1.5), 'the budget is spent';
		$sink->release('go');
		like $c->read_reply->raw, qr/\A250 .*LATE/, 'the reply is passed on';
	};

	subtest "$envelope: or final_timeout" => sub {
		my $sink = SmtpSink->start(final => ['silent', '250 ok']);
		my $proxy = start($sink, '', 'final_timeout 500ms');
		my $c = envelope($proxy, $envelope, 'b@example.org');
		my $reply = content($c, 'x');

		is $reply, 451, 'the message is to come again';
		like $reply->text, qr/may have been delivered/, 'though it may be there';
		is $c->send_message, 250, 'the next message passes';
	};
}

subtest 'the budget bounds the chain' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, 'budget 1s; final_reserve 500ms', '', "dummy slow { wait 20s }\ndefault_chain slow\n");
	my $c = envelope($proxy, 'early', 'b@example.org');
	my $begin = time;

	is content($c, 'x'), 451, 'a filter that takes too long is a tempfail';
	cmp_ok time - $begin, '<', 3 * $TestUtil::PATIENCE, 'in time';
	is $sink->count, 0, 'nothing is delivered';
};

subtest 'data_timeout: a back-end that takes nothing more' => sub {
	my $sink = SmtpSink->start(body => { raw => '', deaf => 1 });
	my $proxy = start($sink, '', 'data_timeout 500ms');
	my $c = envelope($proxy, 'late', 'b@example.org');
	my $begin = time;

	is $c->data, 354, 'DATA';
	$c->send("Subject: x\r\n\r\n$BIG.\r\n");
	is $c->read_reply, 451, 'the message is to come again';
	cmp_ok time - $begin, '<', 5 * $TestUtil::PATIENCE, 'soon';
	$sink->script(body => undef);
	is $c->send_message, 250, 'the next message passes';
};

subtest 'data_timeout: a slow back-end is no fault' => sub {
	my $sink = SmtpSink->start(max_read => 65536, slow => 0.02);
	my $proxy = start($sink, '', 'data_timeout 500ms');
	my $c = envelope($proxy, 'late', 'b@example.org');

	is $c->data, 354, 'DATA';
	$c->send("Subject: x\r\n\r\n$BIG.\r\n");
	is $c->read_reply, 250, 'the message passes';
	is length(($sink->messages)[0]{content}) > length $BIG, 1, 'whole';
};

# ---- the dot on its way --------------------------------------------------------------------

subtest 'a reply that comes while the dot is on its way is early' => sub {
	# Content in memory is all given to the socket, but the back-end reads only its begin.
	for my $chunking (qw(no yes)) {
		my $sink = SmtpSink->start(body => { reply => '250 2.0.0 early', deaf => 1 }, max_read => 4096);
		my $proxy = start($sink, '', "chunking $chunking", "spool { directory %d/spool; inline 4M }\n");
		my $content = "Subject: x\r\n\r\n" . substr $BIG, 0, 72 * 14_000;

		for my $envelope (qw(early late)) {
			my $c = envelope($proxy, $envelope, 'b@example.org');
			is $c->data, 354, 'DATA';
			$c->send("$content.\r\n");
			is $c->read_reply, 451, "$envelope: it is not believed";
		}
		$sink->script(body => undef);
		is $proxy->client($_)->send_message(content => $content), 250, "$_: one that comes after it is" for qw(early late);
		is $sink->count, 2, 'two messages are there';
	}
};

# ---- BDAT out ------------------------------------------------------------------------------

my @STEPWISE = (caps => ['SIZE 104857600', '8BITMIME', 'CHUNKING']);

# The content, and in how many chunks it leaves.
my %CHUNKED = (
	'a message in memory' => ["Subject: x\r\n\r\ntext\r\n", qr/BDAT \d+ LAST/],
	'a message without an octet' => ['', qr/BDAT 0 LAST/],
	'a message in a file' => [$BIG, qr/BDAT \d+ BDAT 0 LAST/],
);

for my $envelope (qw(early late)) {
	for my $what (sort keys %CHUNKED) {
		subtest "$envelope, BDAT: $what" => sub {
			my ($content, $chunks) = @{ $CHUNKED{$what} };
			my $sink = SmtpSink->start(@STEPWISE);
			my $proxy = start($sink, 'received no', 'chunking yes');
			my $c = $proxy->client($envelope);

			is $c->send_message(content => $content), 250, 'passes';
			is $sink->txn(0)->{content}, $content, 'octet for octet';
			like join(' ', $sink->commands), qr/ RCPT TO:<\S+> $chunks\z/, 'in as few chunks as can be';
		};
	}

	subtest "$envelope, BDAT: a chunk is unanswered until the budget is spent" => sub {
		my $sink = SmtpSink->start(@STEPWISE, bdat => held('250 ok'));
		my $proxy = start($sink, 'budget 1s; final_reserve 0s', 'chunking yes');
		my $c = $proxy->client($envelope);
		my $reply = $c->send_message(content => $BIG);

		is $reply, 451, 'the message is to come again';
		is $reply->enhanced, '4.3.2', 'because we were too slow';
		$sink->release('go');
		$sink->script(bdat => '250 ok');
		ok $sink->wait_event(qr/ end /), 'the connection is closed';
		is $c->send_message(content => $BIG), 250, 'the next message passes';
		is $sink->count, 1, 'and is the only one';
	};

	subtest "$envelope, BDAT: BDAT LAST does not leave with less than final_reserve left" => sub {
		my $sink = SmtpSink->start(@STEPWISE, bdat => held('250 ok'));
		my $proxy = start($sink, 'budget 6s; final_reserve 5s', 'chunking yes');
		my $c = envelope($proxy, $envelope, 'b@example.org');

		is $c->data, 354, 'DATA';
		$c->send("$BIG.\r\n");
		ok $sink->wait_event(qr/waits go/), 'the back-end is slow';
		ok $c->is_silent(1.2), 'so that too little time is left';
		$sink->release('go');
		is $c->read_reply, 451, 'and its 250 comes too late';
		ok $sink->wait_event(qr/ end (?:eof|rst)/), 'the connection is closed';
		unlike $sink->events, qr/LAST/, 'and the message is not ended';
	};

	subtest "$envelope, BDAT: after BDAT LAST only the reply ends the wait" => sub {
		my $sink = SmtpSink->start(@STEPWISE, final => held('250 2.0.0 Ok: queued as LATE'));
		my $proxy = start($sink, 'budget 1s; final_reserve 0s', 'chunking yes');
		my $c = envelope($proxy, $envelope, 'b@example.org');

		is $c->data, 354, 'DATA';
		$c->send("$BIG.\r\n");
		ok $sink->wait_event(qr/waits go/), 'the back-end has it all';
		ok $c->is_silent(1.5), 'the budget is spent';
		$sink->release('go');
		like $c->read_reply->raw, qr/\A250 .*LATE/, 'the reply is passed on';
	};
}

subtest 'chunking yes, and an envelope that is pipelined' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, '', 'chunking yes');

	is $proxy->client('late')->send_message, 250, 'the message passes';
	is scalar(grep { /^DATA/ } $sink->commands), 1, 'by DATA, whose 354 shows that replies and commands are in step';
	is $proxy->client('early')->send_message, 250, 'behind an early envelope, too';
	is scalar(grep { /^BDAT/ } $sink->commands), 1, 'but by BDAT';
};

subtest 'chunking yes, and a host that does not offer it' => sub {
	my $sink = SmtpSink->start(caps => ['PIPELINING', '8BITMIME']);
	my $proxy = start($sink, '', 'chunking yes');

	is $proxy->client($_)->send_message, 250, "$_: the message passes" for qw(early late);
	is scalar(grep { /^DATA/ } $sink->commands), 2, 'by DATA';
};

subtest 'a host that offers CHUNKING, and chunking no' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, '', '');

	is $proxy->client($_)->send_message, 250, "$_: the message passes" for qw(early late);
	is scalar(grep { /^DATA/ } $sink->commands), 2, 'by DATA';
};

done_testing;
