#!/usr/bin/perl
# What the front hears of the back-end's replies, and what the back-end is told of the front's parameters.
use strict;
use warnings;
use Test::More;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

sub start
{
	my ($sink, $options, $backend) = @_;

	$backend //= '';
	return TestProxy->start(<<"CONF");
workers 1
listener early { listen 127.0.0.1:0; backend inner; $options }
listener late { listen 127.0.0.1:0; backend inner; envelope late; $options }
backend inner { hosts @{[ $sink->addr ]}; $backend }
CONF
}

# The host is down while postern starts, so that nothing is known of it.
sub start_unseen
{
	my ($sink, $options) = @_;

	$sink->stop;
	my $proxy = start($sink, $options);
	$proxy->wait_log(qr/ backend .*err=/) or die 'the host was not looked for';
	$sink->restart;
	return $proxy;
}

# Content goes by BDAT only behind an envelope that was not pipelined.
my @STEPWISE = (caps => ['SIZE 104857600', '8BITMIME', 'ENHANCEDSTATUSCODES', 'DSN', 'SMTPUTF8', 'CHUNKING']);

# More than goes by one BDAT.
my $BIG = "Subject: big\r\n\r\n" . ('0123456789' x 7 . "\r\n") x 3000;

sub message { return (content => "Subject: $_[0]\r\n\r\ntest\r\n") }

my %TEXT = (
	"550-5.7.1 first line\r\n550-5.7.1\r\n550 5.7.1 third line\r\n" => undef,
	"554-5.7.1 only here\r\n554 the code is given\r\n" => "554-5.7.1 only here\r\n554 5.7.1 the code is given\r\n",
	"550 no enhanced code\r\n" => "550 5.0.0 no enhanced code\r\n",
	"450 no enhanced code\r\n" => "450 4.0.0 no enhanced code\r\n",
	"550 4.1.1 of another class\r\n" => "550 5.0.0 4.1.1 of another class\r\n",
	"552\r\n" => "552 5.0.0\r\n",
	"552 \r\n" => "552 5.0.0\r\n",
	"550 5.1.1 <a\@b>: tab\there, escape \e[31m red\r\n" => "550 5.1.1 <a\@b>: tab here, escape  [31m red\r\n",
	"550 5.6.7 caf\xc3\xa9\r\n" => undef,
	"451 4.7.1 greylisted, come again in 300 seconds\r\n" => undef,
	"421 4.3.2 too busy\r\n" => "451 4.3.2 too busy\r\n",
	"421-too busy\r\n421 really\r\n" => "451-4.4.2 too busy\r\n451 4.4.2 really\r\n",
);

subtest 'a refusal keeps its code, its enhanced code and every line' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, '');

	for my $step (qw(mail rcpt data final)) {
		for my $said (sort keys %TEXT) {
			my $want = $TEXT{$said} // $said;
			for my $envelope (qw(early late)) {
				$sink->script($step => { raw => $said, $said =~ /^421/ ? (then => 'close') : () });
				my $c = $proxy->client($envelope);
				my $got = $c->send_message->raw;
				is $got, $want, "$step, $envelope: " . ($said =~ s/\r\n(?=.)/ | /gr =~ s/[^ -~]+//gr);
				$sink->script($step => $step eq 'data' ? '354 go' : '250 2.0.0 Ok');
			}
		}
	}
	my $stepwise = SmtpSink->start(@STEPWISE);
	my $chunked = start($stepwise, '', 'chunking yes');
	for my $step (qw(bdat final)) {
		for my $said (sort keys %TEXT) {
			for my $envelope (qw(early late)) {
				$stepwise->script($step => { raw => $said, $said =~ /^421/ ? (then => 'close') : () });
				my $got = $chunked->client($envelope)->send_message($step eq 'bdat' ? (content => $BIG) : ());
				is $got->raw, $TEXT{$said} // $said, "BDAT, $step, $envelope";
				$stepwise->script($step => '250 2.0.0 Ok');
			}
		}
	}
	is $sink->count + $stepwise->count, 0, 'and nothing of it was taken';
};

subtest 'behind a refused BDAT comes RSET, and the connection goes on' => sub {
	for my $step (qw(bdat final)) {
		for my $envelope (qw(early late)) {
			my $sink = SmtpSink->start(@STEPWISE, $step => ['554 5.6.0 no', '250 2.0.0 Ok']);
			my $proxy = start($sink, '', 'chunking yes; max_connections 1');
			my $c = $proxy->client($envelope);

			is $c->send_message(content => $BIG), 554, "$step, $envelope: it is refused";
			is $c->send_message(content => $BIG), 250, 'the next message passes';
			like join(' ', $sink->commands), qr/BDAT \d+(?: BDAT 0 LAST)? RSET MAIL \S+(?: \S+)* RCPT/, 'behind a RSET';
			is $sink->connections, 1, 'over the same connection';
		}
	}
};

subtest 'what refuses our hop is 451 with an error in the log' => sub {
	my $sink = SmtpSink->start(rcpt => '530 5.7.0 Authentication required');
	my $proxy = start($sink, '');

	my $reply = $proxy->client('early')->send_message;
	is $reply, 451, 'the front gets a 451';
	is $reply->enhanced, '4.3.5', 'that says so by its enhanced code';
	unlike $reply->text, qr/Authentication/, 'and not the text, which is for us';
	ok $proxy->wait_log(qr/ backend .*to=RCPT code=530 text="Authentication required"/), 'the log has it all';
	like $proxy->log, qr/\berror\b.* backend .*code=530/i, 'as an error';
};

subtest 'early: the back-end answers each recipient at once' => sub {
	my $sink = SmtpSink->start(rcpt => ['250 2.1.5 Ok', '550 5.1.1 unknown', '450 4.2.1 full', '251 2.1.5 will forward']);
	my $proxy = start($sink, '');
	my $c = $proxy->client('early');

	$c->ehlo;
	is $c->mail('a@example.net'), 250, 'MAIL';
	is join(' ', map { $c->rcpt("$_\@example.org")->code } 1 .. 4), '250 550 450 251', 'RCPT by RCPT';
	is $c->data, 354, 'DATA';
	$c->send("Subject: x\r\n\r\ntext\r\n.\r\n");
	my $reply = $c->read_reply;
	is $reply, 250, 'those that stand get it';
	like $reply->text, qr/queued as SINK/, 'with the queue id of the back-end';
	is_deeply $sink->txn(0)->{rcpt_ok}, ['TO:<1@example.org>', 'TO:<4@example.org>'], 'and no one else';
	is $sink->connections, 1, 'over one connection';
};

subtest 'early: all recipients are refused' => sub {
	my $sink = SmtpSink->start(rcpt => ['550 5.1.1 no', '550 5.1.1 no', '250 ok']);
	my $proxy = start($sink, '');
	my $c = $proxy->client('early');

	$c->ehlo;
	$c->mail('a@example.net');
	is join(' ', map { $c->rcpt("$_\@example.org")->code } 1 .. 2), '550 550', 'each is told';
	is $c->data, 503, 'DATA makes no sense then';
	is $c->rset, 250, 'RSET';
	is $c->send_message(message('next')), 250, 'and the next message passes';
	is $sink->count, 1, 'once';
};

for my $case ([0, 0], [1, 0], [0, 1]) {
	my ($pipelining, $chunking) = @$case;
	my $with = ($pipelining ? 'with' : 'without') . ' PIPELINING, by ' . ($chunking ? 'BDAT' : 'DATA');
	my @caps = ($pipelining ? qw(PIPELINING 8BITMIME) : qw(8BITMIME), 'CHUNKING');
	my $backend = $chunking ? 'chunking yes' : '';

	subtest "late, $with: differing answers for recipients lose nothing" => sub {
		my $sink = SmtpSink->start(caps => \@caps, rcpt => ['250 2.1.5 Ok', '550 5.1.1 unknown', '250 2.1.5 Ok']);
		my $proxy = start($sink, '', $backend);
		my $c = $proxy->client('late');
		my @both = (from => 'list@example.net', to => ['a@example.org', 'b@example.org', 'c@example.org']);

		my $reply = $c->send_message(@both, message('mixed'));
		is $reply, 451, 'all come again';
		is $reply->enhanced, '4.5.3', 'because of the recipients';
		is $sink->count, 0, 'and nothing is delivered';
		ok $proxy->wait_log(qr/ rcpt .*to=<b\@example\.org> code=550/), 'the log names the one';

		$sink->script(rcpt => '250 2.1.5 Ok');
		$c->ehlo;
		is $c->mail('list@example.net'), 250, 'when they come again';
		is $c->rcpt('a@example.org'), 250, 'the first recipient is taken';
		$reply = $c->rcpt('b@example.org');
		is $reply, 452, 'the second is to come alone';
		is $reply->enhanced, '4.5.3', 'for too many recipients';
		is $c->data, 354, 'DATA';
		$c->send("Subject: one\r\n\r\ntext\r\n.\r\n");
		is $c->read_reply, 250, 'the first has it';
		$sink->script(rcpt => '550 5.1.1 unknown');
		$reply = $c->send_message(from => 'list@example.net', to => 'b@example.org');
		is $reply, 550, 'the second has its own result';
		like $reply->text, qr/\A5\.1\.1 unknown\z/, 'in the words of the back-end';
		$sink->script(rcpt => '250 2.1.5 Ok');
		is $c->send_message(from => 'other@example.net', to => ['a@example.org', 'b@example.org']), 250,
		    'another sender is not concerned';
		is $sink->count, 2, 'two messages were delivered';
		# The 354 tells that no content may follow; by BDAT it must not leave at all.
		is scalar(grep { /^BDAT/ } $sink->commands), $chunking ? 2 : 0, 'and no other content was sent';
	};

	subtest "late, $with: one answer for all recipients is the answer" => sub {
		my $sink = SmtpSink->start(caps => \@caps);
		my $proxy = start($sink, '', $backend);
		my $c = $proxy->client('late');
		my @both = (to => ['a@example.org', 'b@example.org']);

		$sink->script(rcpt => ['550 5.1.1 first', '553 5.1.3 second']);
		is $c->send_message(@both)->raw, "550 5.1.1 first\r\n", 'refused for good by all';
		$sink->script(rcpt => ['450 4.2.1 first', '452 4.2.2 second']);
		is $c->send_message(@both)->raw, "450 4.2.1 first\r\n", 'refused for now by all';
		$sink->script(rcpt => ['450 4.2.1 first', '550 5.1.1 second']);
		is $c->send_message(@both), 451, 'refused by all, but not alike';
		is $sink->count, 0, 'nothing is delivered';
		my @rset = grep { /^(?:RSET|QUIT)/ } $sink->commands;
		cmp_ok scalar(@rset) + ($sink->events =~ /end (?:eof|rst)/ ? 1 : 0), '>=', 1, 'and the transactions were given up';
	};

	subtest "late, $with: a refusal counts also when the back-end hangs up behind it" => sub {
		my $sink = SmtpSink->start(caps => \@caps);
		my $proxy = start($sink, '', $backend);
		my $c = $proxy->client('late');

		for my $step ('mail', 'rcpt', $chunking ? 'final' : 'data') {
			$sink->script($step => { reply => '550 5.7.1 go away', then => 'close' });
			is $c->send_message->raw, "550 5.7.1 go away\r\n", $step;
			$sink->script($step => $step eq 'data' ? '354 go' : '250 ok');
		}
		is $c->send_message, 250, 'and the next message passes';
	};

	subtest "late, $with: a recipient that was never answered is no refusal" => sub {
		my $sink = SmtpSink->start(caps => \@caps,
			rcpt => { reply => '550 5.1.1 unknown', then => 'close' });
		my $proxy = start($sink, '', $backend);
		my $c = $proxy->client('late');

		is $c->send_message(to => ['a@example.org', 'b@example.org']), 451, 'all come again';
	};
}

subtest 'separate_for ends' => sub {
	my $sink = SmtpSink->start(rcpt => ['250 ok', '550 5.1.1 unknown', '250 ok']);
	my $proxy = start($sink, 'separate_for 2s');
	my $c = $proxy->client('late');
	my @both = (to => ['a@example.org', 'b@example.org']);

	is $c->send_message(@both), 451, 'differing answers';
	is $c->send_message(@both), 452, 'the second comes alone';
	$c->rset;
	select undef, undef, undef, 2.1; # not tried meanwhile: each try begins it anew
	is $c->send_message(@both), 250, 'both are taken together again';
};

# ---- parameters ----------------------------------------------------------------------------

subtest 'the back-end is told what it offered, and nothing else' => sub {
	my %offers = (
		'SIZE' => [['SIZE 1000'], qr/\AFROM:<a\@example\.net> SIZE=\d+\z/, qr/\ATO:<b\@example\.org>\z/],
		'8BITMIME' => [['8BITMIME'], qr/\AFROM:<a\@example\.net> BODY=8BITMIME\z/, qr/\ATO:<b\@example\.org>\z/],
		'DSN' => [['DSN', '8BITMIME'], qr/\AFROM:<a\@example\.net> BODY=8BITMIME RET=HDRS ENVID=abc\z/,
			qr/\ATO:<b\@example\.org> NOTIFY=NEVER ORCPT=rfc822;b\@example\.org\z/],
	);

	for my $envelope (qw(early late)) {
		for my $what (sort keys %offers) {
			my ($caps, $mail, $rcpt) = @{ $offers{$what} };
			my $sink = SmtpSink->start(caps => $caps);
			my $proxy = start($sink, '');
			is $proxy->client($envelope)->send_message, 250, "$envelope, $what: the host is known now";

			my $c = $proxy->client($envelope);
			$c->ehlo;
			my @mail = ('SIZE=100', $c->has('8BITMIME') ? 'BODY=8BITMIME' : (),
				$c->has('DSN') ? qw(RET=HDRS ENVID=abc) : ());
			my @rcpt = $c->has('DSN') ? qw(NOTIFY=NEVER ORCPT=rfc822;b@example.org) : ();
			is $c->mail('a@example.net', @mail), 250, 'MAIL';
			is $c->rcpt('b@example.org', @rcpt), 250, 'RCPT';
			$c->data;
			$c->send("Subject: x\r\n\r\ntext\r\n.\r\n");
			is $c->read_reply, 250, 'DATA';
			like $sink->txn(1)->{mail}, $mail, 'MAIL at the back-end';
			like $sink->txn(1)->{rcpt}[0], $rcpt, 'RCPT at the back-end';
		}
	}
};

subtest 'late, SIZE= counts our own header line' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, '');
	my $c = $proxy->client('late');

	is $c->send_message(mail_params => 'SIZE=1'), 250, 'whatever the front said';
	my ($size) = $sink->txn(0)->{mail} =~ / SIZE=(\d+)/;
	is $size, length $sink->txn(0)->{content}, 'it is the size of what the back-end gets';
};

subtest 'early, SIZE= counts our own header line, too, as far as it is known' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, '');
	my $c = $proxy->client('early');
	my $content = "Subject: size\r\n\r\ntext\r\n";

	is $c->send_message(content => $content, mail_params => 'SIZE=' . length $content), 250, 'a message passes';
	my ($size) = $sink->txn(0)->{mail} =~ / SIZE=(\d+)/;
	is $size, length($sink->txn(0)->{content} =~ s/\r\n\tfor <\S+?>; /;\r\n\t/r), 'all but the for clause';
	is $c->send_message(content => $content), 250, 'and one without SIZE=';
	is $sink->txn(1)->{mail}, 'FROM:<sender@example.net>', 'goes without';
};

subtest 'a back-end that knows HELO only gets no parameter and no pipelining' => sub {
	my $sink = SmtpSink->start(ehlo => '502 5.5.1 what?');
	my $proxy = start($sink, '');

	for my $envelope (qw(early late)) {
		is $proxy->client($envelope)->send_message(mail_params => 'SIZE=100'), 250, "$envelope: it gets mail";
		is_deeply [map { $_->{mail} } $sink->txns], [('FROM:<sender@example.net>') x $sink->count], 'MAIL alone';
	}
	my $c = $proxy->client('early');
	$c->ehlo;
	ok !$c->has($_), "$_ is not offered to the front" for qw(8BITMIME SMTPUTF8 DSN);
	is $c->mail('a@example.net', 'BODY=8BITMIME'), 555, 'and not taken';
};

subtest 'what is offered is what the back-end offers' => sub {
	my $sink = SmtpSink->start(caps => ['SMTPUTF8', 'DSN', '8BITMIME', 'SIZE 2000', 'XCLIENT NAME', 'BINARYMIME', 'ETRN']);
	my $proxy = start_unseen($sink, '');
	my $c = $proxy->client('early');

	$c->ehlo;
	is_deeply [sort @{ $c->caps }], ['8BITMIME', 'CHUNKING', 'ENHANCEDSTATUSCODES', 'PIPELINING', 'SIZE 52428800'],
	    'a host never seen counts as 8BITMIME only';
	is $c->send_message, 250, 'a message passes';
	$c->ehlo;
	is_deeply [sort @{ $c->caps }], ['8BITMIME', 'CHUNKING', 'DSN', 'ENHANCEDSTATUSCODES', 'PIPELINING', 'SIZE 2000', 'SMTPUTF8'],
	    'after it the host is known';
};

subtest 'a host that lacks what was offered' => sub {
	for my $envelope (qw(early late)) {
		my $sink = SmtpSink->start(caps => ['PIPELINING']);
		my $proxy = start_unseen($sink, '');
		my $c = $proxy->client($envelope);

		$c->ehlo;
		ok $c->has('8BITMIME'), "$envelope: 8BITMIME is offered before the host is known";
		is $c->send_message(mail_params => 'BODY=8BITMIME'), 451, 'and turns out not to be possible';
		$c->rset;
		is $sink->count, 0, 'the message is not sent as something else';
		$c->ehlo;
		ok !$c->has('8BITMIME'), 'then it is offered no more';
		is $c->send_message, 250, 'and other mail passes';
		is $sink->connections, 1, 'over the same connection';
	}
};

done_testing;
