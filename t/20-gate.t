#!/usr/bin/perl
# The gate: filters that are asked when a client connects, at HELO, MAIL and RCPT, and whose refusal is the reply.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $sink = SmtpSink->start;
my $inner = "backend inner { hosts @{[ $sink->addr ]} }";

# A proxy with a listener for each of these: name => [gate, more options].
sub proxy
{
	my ($filters, %gates) = @_;
	my $conf = "workers 2\nquarantine { directory %d/q }\n$inner\n$filters\n";

	$conf .= "listener $_ { listen 127.0.0.1:0; backend inner; gate $gates{$_}[0]; @{[ $gates{$_}[1] // '' ]} }\n"
		for sort keys %gates;
	return TestProxy->start($conf);
}

# How far a client comes: the first reply that is no yes, with the command it is for, and what became of the message.
sub way
{
	my ($proxy, $listener, %opt) = @_;
	my $c = SmtpClient->new($proxy->addr($listener));
	my $before = $sink->count;
	my $stage = 'connect';
	my $reply = $c->read_reply;

	($stage, $reply) = ('helo', $c->ehlo) if $reply == 220;
	($stage, $reply) = ('mail', $c->mail('s@example.net')) if $stage eq 'helo' && $reply == 250;
	($stage, $reply) = ('rcpt', $c->rcpt('r@example.org')) if $stage eq 'mail' && $reply == 250;
	if ($stage eq 'rcpt' && $reply == 250) {
		$c->data == 354 or die 'DATA';
		$c->send(SmtpClient::stuffed("Subject: x\r\n\r\nx\r\n"));
		($stage, $reply) = ('end', $c->read_reply);
	}
	return ($c, $stage, $reply->raw =~ s/\r\n\z//r, $sink->count - $before);
}

# ---- each stage with each verdict ------------------------------------------------------------

# verdict => what the client is told; undef: it passes
my %says = (pass => undef, accept => undef, reject => '550 5.7.1 message refused', tempfail => '451 4.7.1 please try again later',
	disconnect => '421 4.7.0 closing the connection', discard => undef, quarantine => undef);
my (%gates, $filters);
for my $stage (qw(connect helo mail rcpt)) {
	for my $verdict (sort keys %says) {
		next if $verdict eq 'discard' && $stage =~ /^(?:connect|helo)$/;
		$filters .= "always $stage$verdict { at $stage; verdict $verdict }\n";
		$gates{"$stage$verdict"} = ["$stage$verdict", $verdict eq 'pass' ? 'envelope late' : ''];
	}
}
my $proxy = proxy($filters, %gates);

for my $name (sort keys %gates) {
	my ($stage, $verdict) = $name =~ /^(connect|helo|mail|rcpt)(\w+)$/;

	subtest "at $stage: $verdict" => sub {
		my ($c, $at, $reply, $delivered) = way($proxy, $name);

		if (defined $says{$verdict}) {
			my $told = $says{$verdict};
			# RFC 5321 3.1: instead of the greeting there is 554 or 421.
			$told =~ s/^550/554/, $told =~ s/^451/421/ if $stage eq 'connect';
			is($at, $stage, 'the client comes so far');
			is($reply, $told, 'and is told so');
			is($delivered, 0, 'nothing is delivered');
			if ($stage eq 'connect' || $verdict eq 'disconnect') {
				ok($c->wait_eof, 'the session ends');
			} elsif ($stage eq 'helo') {
				is($c->mail('s@example.net'), 503, 'without a name there is no MAIL');
				is($c->ehlo('other.example')->raw, "$told\r\n", 'and another name is asked about anew');
			} elsif ($stage eq 'mail') {
				is($c->rcpt('r@example.org'), 503, 'there is no transaction');
				is($c->mail('t@example.net')->raw, "$told\r\n", 'the next MAIL is asked about anew');
			} else {
				is($c->data, 503, 'there is no recipient');
				is($c->rset, 250, 'and the session goes on');
			}
		} else {
			is($at, 'end', 'the client comes to the end');
			like($reply, $verdict eq 'discard' ? qr/^250 2\.0\.0 Ok: discarded$/ : qr/^250 2\.0\.0 Ok: queued as/, 'the message is taken');
			is($delivered, $verdict =~ /^(?:pass|accept)$/ ? 1 : 0, 'and delivered, or not');
			my $line = $proxy->summary_of($c);
			is($line->{verdict}, $verdict eq 'accept' ? 'pass' : $verdict, 'the summary has the verdict');
			is(($line->{gate} // '') =~ s{/\d+ms}{}r, $stage =~ /^[mr]/ ? "$name\@$stage:$verdict" : '', 'and what was asked in the transaction');
			ok(defined $line->{quarantine}, 'it is in the quarantine') if $verdict eq 'quarantine';
			is($c->send_message, 250, 'the session goes on');
			is($proxy->summary_of($c)->{verdict}, $line->{verdict}, 'and the next message fares alike');
		}
	};
}

subtest 'who was refused, and by whom, stands in the log once' => sub {
	ok($proxy->wait_log(qr/^info \S+ s=\S+ gate stage=connect client=127\.0\.0\.1:\d+ filter=connectreject verdict=reject code=554 text="message refused"$/m), 'at connect, with the code that stood in place of the greeting');
	ok($proxy->wait_log(qr/^info \S+ s=\S+ gate stage=connect client=\S+ filter=connecttempfail verdict=tempfail code=421 /m), 'also for now');
	ok($proxy->wait_log(qr/^info \S+ s=\S+ gate stage=helo client=\S+ helo=client\.example filter=helotempfail verdict=tempfail code=451 /m), 'at helo');
	ok($proxy->wait_log(qr/^info \S+ s=\S+ t=1 rcpt to=<r\@example\.org> code=550 text="message refused" filter=rcptreject verdict=reject$/m), 'at rcpt');
	is(scalar(() = $proxy->log =~ / filter=rcptreject /g), 1, 'once');
	ok($proxy->wait_log(qr/^info \S+ s=\S+ t=1 rcpt to=<r\@example\.org> code=250 text=Ok filter=rcptdiscard verdict=discard$/m), 'a dropped recipient, too');
	my @mail = grep { ($_->{gate} // '') =~ /^mailreject\@/ } $proxy->summaries;
	is(scalar @mail, 2, 'at MAIL it is the summary');
	is("$mail[0]{verdict} $mail[0]{code} $mail[0]{from}", 'reject 550 <s@example.net>', 'with all of it');
	my @gone = grep { ($_->{gate} // '') =~ /^rcptdisconnect\@/ } $proxy->summaries;
	is("$gone[0]{verdict} $gone[0]{code}", 'disconnect 421', 'a session that was ended, too');
};

# ---- what holds for how long -----------------------------------------------------------------

$proxy = proxy(<<'FILTERS',
always known { at connect; verdict accept; only_client 127.0.0.2 }
always friend { at helo; verdict accept; only_helo friend.example }
always ours { at mail; verdict accept; only_sender ours@example.net }
always post { at rcpt; verdict accept; only_recipient postmaster@example.org }
always nohelo { at helo; verdict reject; text helo; only_helo bad.example }
always nomail { at mail; verdict reject; text mail; only_sender @bad.example ours@example.net }
always norcpt { at rcpt; verdict reject; text rcpt; skip_recipient good@example.org }
always mess { verdict reject; text message; at message; only_subject bad }
default_chain mess
FILTERS
	front => ['known friend ours post nohelo nomail norcpt']);

subtest 'accept ends the gate for its scope, and never the chain' => sub {
	my $bad = "Subject: bad\r\n\r\nx\r\n";
	my $c = $proxy->client('front', local => '127.0.0.2');
	is($c->ehlo('bad.example'), 250, 'a known client may call itself as it likes,');
	is($c->send_message(from => 'x@bad.example'), 250, 'and send whatever it likes');
	is($c->send_message(from => 'x@bad.example', content => $bad)->raw, "550 5.7.1 message\r\n", 'but the chain');

	$c = $proxy->client;
	is($c->ehlo('bad.example')->raw, "550 5.7.1 helo\r\n", 'another client may not');
	is($c->ehlo('friend.example'), 250, 'a friend');
	is($c->send_message(from => 'x@bad.example'), 250, 'may send whatever it likes');
	is($c->ehlo('other.example'), 250, 'until it has another name');
	is($c->mail('x@bad.example')->raw, "550 5.7.1 mail\r\n", 'then it may not');

	is($c->mail('ours@example.net'), 250, 'one of our senders');
	is($c->rcpt('any@example.org'), 250, 'may send to whom it likes');
	is($c->rset, 250, 'in that transaction');
	is($c->mail('else@example.net'), 250, 'another one may not');
	is($c->rcpt('any@example.org')->raw, "550 5.7.1 rcpt\r\n", 'send to any');
	is($c->rcpt('postmaster@example.org'), 250, 'but to the postmaster');
	is($c->rcpt('any@example.org')->raw, "550 5.7.1 rcpt\r\n", 'which opens nothing for others');
	is($c->rcpt('good@example.org'), 250, 'a good one passes');
	is($c->data, 354, 'and the message');
	$c->send("$bad.\r\n");
	is($c->read_reply->raw, "550 5.7.1 message\r\n", 'is looked at');
};

subtest 'an EHLO that is refused leaves all as it was' => sub {
	my $c = $proxy->client;
	my $n = $sink->count;

	$c->ehlo('good.example');
	is($c->mail('s@example.net'), 250, 'in a transaction');
	is($c->rcpt('good@example.org'), 250, 'with a recipient');
	is($c->ehlo('bad.example')->raw, "550 5.7.1 helo\r\n", 'an EHLO is refused');
	is($c->helo('bad.example')->raw, "550 5.7.1 helo\r\n", 'as is a HELO');
	is($c->data, 354, 'the transaction is still there');
	$c->send("Subject: x\r\n\r\nx\r\n.\r\n");
	is($c->read_reply, 250, 'and its message is taken');
	is($sink->count, $n + 1, 'and delivered');
	is($proxy->summary_of($c)->{helo}, 'good.example', 'under the first name');
	is($c->mail('s@example.net'), 250, 'the next one is possible');
	is($c->ehlo('third.example'), 250, 'an EHLO that is not refused');
	is($c->rcpt('good@example.org'), 503, 'ends it');
	is($proxy->summary_of($c)->{helo}, 'good.example', 'which the log tells under the name it had');
	is($c->send_message(to => 'good@example.org'), 250, 'and then');
	is($proxy->summary_of($c)->{helo}, 'third.example', 'the new name holds');
	is($c->ehlo('friend.example'), 250, 'what was accepted with a name');
	is($c->ehlo('bad.example'), 550, 'holds behind one that is refused');
	is($c->mail('x@bad.example'), 250, 'as the name does');
};

subtest 'commands in one packet' => sub {
	my $c = $proxy->client;
	my $n = $sink->count;

	$c->ehlo;
	$c->send(join '', map { "$_\r\n" } 'MAIL FROM:<s@bad.example>', 'RCPT TO:<good@example.org>', 'DATA');
	is(join(' ', map { $c->read_reply->code } 1 .. 3), '550 503 503', 'a MAIL that is refused');
	$c->send(join '', map { "$_\r\n" } 'MAIL FROM:<s@example.net>', (map { "RCPT TO:<$_\@example.org>" } qw(a good b)), 'DATA');
	is(join(' ', map { $c->read_reply->code } 1 .. 5), '250 550 250 550 354', 'recipients that are');
	$c->send("Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n");
	is(join(' ', map { $c->read_reply->code } 1 .. 2), '250 221', 'and the message for the others');
	is($sink->count, $n + 1, 'is delivered');
	like("@{ ($sink->messages)[-1]{rcpt} }", qr/^TO:<good\@example\.org>$/, 'to these');
	$proxy->summary_of($c);
	is($proxy->summary_of($c)->{gate} =~ s{/\d+ms}{}gr,
		'ours@mail:skipped,nomail@mail:skipped,post@rcpt:skipped*3,norcpt@rcpt:reject*2,norcpt@rcpt:skipped',
		'the log counts alike answers together');
};

subtest 'a filter is asked where its conditions are known' => sub {
	my $proxy = proxy(<<'FILTERS', front => ['all name from to tls'], errors => ['odd', 'max_errors 3']);
always all { at connect helo mail rcpt; only_recipient all@example.org; text all }
always name { at connect helo; only_helo name.example; text name }
always from { at connect helo mail; only_sender from@example.net; text from }
always to { at connect helo mail rcpt; only_sender s@example.net; only_recipient to@example.org; text to }
always tls { at connect helo mail; only_tls yes; text tls }
always odd { at helo mail; only_helo odd.example; code 503 }
FILTERS
	my $c = $proxy->client('front');

	is($c->ehlo('name.example')->raw, "550 5.7.1 name\r\n", 'a name');
	is($c->ehlo, 250, 'not at others');
	is($c->mail('from@example.net')->raw, "550 5.7.1 from\r\n", 'a sender');
	is($c->mail('s@example.net'), 250, 'not at others');
	is($c->rcpt('all@example.org')->raw, "550 5.7.1 all\r\n", 'a recipient');
	is($c->rcpt('to@example.org')->raw, "550 5.7.1 to\r\n", 'of a sender');
	is($c->rcpt('x@example.org'), 250, 'not at others');
	$c->rset;
	$c->mail('x@example.net');
	is($c->rcpt('to@example.org'), 250, 'nor of another sender');

	$c = $proxy->client('errors');
	is($c->ehlo('odd.example'), 503, 'whatever code a filter has,') for 1 .. 5;
	is($c->noop, 250, 'its refusal is no error of the client');
};

subtest 'with TLS' => sub {
	plan skip_all => 'needs Net::SSLeay' unless eval { require TlsOctets };
	require Certs;
	my $certs = Certs->new;
	my ($cert, $key) = $certs->make('server');
	my $tls = "tls { certificate $cert; key $key }";
	my $proxy = proxy(<<'FILTERS', front => ['secret ann', $tls], inside => ['secret', "$tls; implicit_tls yes"]);
always secret { at connect; only_tls yes }
always ann { at helo; verdict accept; only_helo ann.example }
FILTERS
	my $c = SmtpClient->new($proxy->addr('inside'), tls => { ca => $certs->ca });
	is($c->read_reply->raw, "554 5.7.1 message refused\r\n", 'what begins with TLS is asked about behind the handshake');
	$c = $proxy->client('front');
	is($c->ehlo('ann.example'), 250, 'in clear');
	ok($c->starttls(ca => $certs->ca), 'and STARTTLS');
	is($c->mail('s@example.net'), 503, 'the name is forgotten');
	is($c->ehlo('other.example'), 250, 'but connecting is not asked about again');
	is($c->send_message, 250, 'and mail passes');
};

subtest 'what a name has brought goes with it' => sub {
	my $proxy = proxy('always aside { at helo; verdict quarantine; text "odd name"; only_helo /^odd/ }', front => ['aside']);
	my $c = $proxy->client;

	is($c->ehlo($_), 250, $_) for 'odd.example', 'odder.example';
	is($c->send_message, 250, 'a message');
	is($proxy->summary_of($c)->{verdict}, 'quarantine', 'is set aside');
	ok($proxy->wait_log(qr/ quarantine id=\S+ filter=aside reason="odd name" /), 'for this reason');
	is($c->ehlo('even.example'), 250, 'with another name');
	is($c->send_message, 250, 'another one');
	is($proxy->summary_of($c)->{verdict}, 'pass', 'passes');
};

# ---- recipients that are dropped or set aside ------------------------------------------------

$proxy = proxy(<<'FILTERS',
always drop { at rcpt; verdict discard; only_recipient drop@example.org drop2@example.org }
always aside { at rcpt; verdict quarantine; text "set aside"; only_recipient aside@example.org aside2@example.org }
always virus { at message; verdict reject; only_subject virus }
default_chain virus
FILTERS
	front => ['drop aside'], late => ['drop aside', 'envelope late']);

for my $listener ('front', 'late') {
	subtest "some recipients, $listener" => sub {
		my $c = $proxy->client($listener);
		my $n = $sink->count;
		my @commands = $sink->commands;

		is($c->send_message(to => [ 'drop@example.org', 'x@example.org', 'drop2@example.org' ]), 250, 'some are dropped');
		is($sink->count, $n + 1, 'the message is delivered to the other');
		my @heard = $sink->commands;
		unlike("@heard[ @commands .. $#heard ]", qr/drop/, 'and the back-end never heard of them');
		is($proxy->summary_of($c)->{rcpts}, 1, 'nor are they counted');
		is($c->send_message(to => [ 'drop@example.org', 'drop2@example.org' ])->raw, "250 2.0.0 Ok: discarded\r\n", 'when all are dropped the message is');
		my $line = $proxy->summary_of($c);
		is("$line->{verdict} $line->{rcpts}", 'discard 0', 'as the log tells');
		is($sink->count, $n + 1, 'and nothing is delivered');

		like($c->send_message(to => [ 'aside@example.org', 'drop@example.org', 'aside2@example.org' ])->raw, qr/^250 /, 'some are set aside');
		$line = $proxy->summary_of($c);
		is("$line->{verdict} $line->{rcpts}", 'quarantine 2', 'and the message for them is');
		is($sink->count, $n + 1, 'and nothing is delivered');
		$c->mail('s@example.net');
		is($c->rcpt('aside@example.org'), 250, 'who is set aside');
		is($c->rcpt('x@example.org')->raw, "452 4.5.3 send this recipient in a transaction of its own\r\n", 'shares no transaction with who is not');
		$c->rset;
		$c->mail('s@example.net');
		is($c->rcpt('x@example.org'), 250, 'nor');
		is($c->rcpt('aside@example.org'), 452, 'the other way round');
		is($c->rcpt('drop@example.org'), 250, 'but one that is dropped does');
		$c->rset;
		is($c->send_message(to => 'aside@example.org', content => "Subject: virus\r\n\r\nx\r\n"), 550, 'what the chain refuses is refused all the same');
	};
}

subtest 'who was dropped hears of no refusal that others got' => sub {
	my $virus = "Subject: virus\r\n\r\nx\r\n";
	my $proxy = proxy(<<'FILTERS', front => ['drop']);
always drop { at rcpt; verdict discard; only_recipient drop@example.org }
always virus { at message; verdict reject; only_subject virus }
default_chain virus
FILTERS
	my $c = $proxy->client;

	is($c->send_message(to => [ 'drop@example.org', 'x@example.org' ], content => $virus)->raw,
		"451 4.5.3 recipients got differing verdicts; send them one at a time\r\n", 'a bounce would be about both, so they come again');
	is($proxy->summary_of($c)->{verdict}, 'tempfail', 'as the log tells');
	$c->mail('sender@example.net');
	is($c->rcpt('drop@example.org'), 250, 'one');
	is($c->rcpt('x@example.org'), 452, 'by one');
	is($c->data, 354, 'the one');
	$c->send("$virus.\r\n");
	is($c->read_reply->raw, "250 2.0.0 Ok: discarded\r\n", 'is dropped');
	is($c->send_message(to => 'x@example.org', content => $virus), 550, 'and the other one refused');
};

subtest 'nor of one by the back-end' => sub {
	my $back = SmtpSink->start(final => '554 5.6.0 no');
	my $proxy = TestProxy->start(<<"CONF");
listener front { listen 127.0.0.1:0; backend other; gate drop }
backend other { hosts @{[ $back->addr ]} }
always drop { at rcpt; verdict discard; only_recipient drop\@example.org }
CONF
	my $c = $proxy->client;

	is($c->send_message(to => [ 'x@example.org', 'drop@example.org' ])->raw,
		"451 4.5.3 recipients were answered differently; send them one at a time\r\n", 'at the end of data');
	is($c->send_message(to => 'x@example.org')->raw, "554 5.6.0 no\r\n", 'who comes alone hears it');
};

# ---- faults ----------------------------------------------------------------------------------

# on_failure => what MAIL or RCPT is told
my %fails = (tempfail => '451 4.3.0 could not be checked, please try again later', reject => '554 5.3.0 could not be checked',
	disconnect => '421 4.3.0 could not be checked, closing the connection', pass => undef, quarantine => undef);
($filters, %gates) = ('');
for my $stage (qw(connect helo mail rcpt)) {
	for my $how (sort keys %fails) {
		for my $kind ('fails', 'late') {
			my $what = $kind eq 'fails' ? 'fail yes' : 'wait 30s; timeout 30ms';
			$filters .= "dummy $stage$how$kind { at $stage; on_failure $how; $what }\n";
			$gates{"$stage$how$kind"} = ["$stage$how$kind"];
		}
	}
}
$proxy = proxy($filters, %gates);

for my $name (sort keys %gates) {
	my ($stage, $how, $kind) = $name =~ /^(connect|helo|mail|rcpt)(\w+?)(fails|late)$/;

	subtest "at $stage: a filter that is or $kind, on_failure $how" => sub {
		my ($c, $at, $reply, $delivered) = way($proxy, $name);

		if (defined $fails{$how}) {
			# Nobody is sent away at connect or helo because something of ours does not work.
			is($at, $stage eq 'rcpt' ? 'rcpt' : 'mail', 'the client comes so far');
			is($reply, $fails{$how}, 'and is told so');
			is($delivered, 0, 'nothing is delivered');
			ok($how eq 'disconnect' ? $c->wait_eof : $c->noop == 250, 'the session ends, or goes on');
			is($c->mail('s@example.net')->raw, $stage eq 'rcpt' ? "503 5.5.1 MAIL is not possible now\r\n" : "$reply\r\n", 'the next MAIL asks again')
				if $how ne 'disconnect';
		} else {
			is($at, 'end', 'the client comes to the end');
			is($delivered, $how eq 'pass' ? 1 : 0, 'and the message is delivered, or not');
			is($proxy->summary_of($c)->{verdict}, $how, 'as the log tells');
		}
	};
}
is(scalar(() = $proxy->log =~ /^warn \S+ s=\S+ (?:t=1 )?filter filter=connecttempfailfails err="told to fail" on_failure=tempfail$/mg), 1,
	'a fault is in the log');

subtest 'a fault is not remembered' => sub {
	my $proxy = proxy("dummy slow { at connect; wait @{[ 2 * $TestUtil::PATIENCE ]}s; max_instances 1; max_wait 50ms }", front => ['slow']);
	my $first = SmtpClient->new($proxy->addr('front'));
	$proxy->wait_log(qr/ connect client=127\.0\.0\.1:@{[ $first->sock->sockport ]} /);
	my $c = SmtpClient->new($proxy->addr('front'));

	is($c->read_reply, 220, 'who finds no place in the filter is greeted');
	ok($first->is_silent(0), 'while another one has it');
	is($c->ehlo, 250, 'and may say its name');
	is($c->mail('s@example.net'), 451, 'MAIL asks again and finds none');
	is($first->read_reply, 220, 'when there is one');
	is($c->mail('s@example.net'), 250, 'the next MAIL finds it');
	is($c->rset, 250, 'and after that');
	is($c->mail('s@example.net'), 250, 'nobody is asked any more');
	my @gates = map { $_->{gate} // '' } $proxy->summary_of($c), $proxy->summary_of($c);
	like($gates[0], qr{^slow\@connect:tempfail/\d+ms$}, 'the log tells of the first');
	like($gates[1], qr{^slow\@connect:pass/\d+ms$}, 'and of the second');
};

# ---- shadows, and what becomes of a reject ---------------------------------------------------

subtest 'a shadow and on_reject' => sub {
	my $proxy = proxy(<<'FILTERS', shadow => ['shadow'], tame => ['tame'], drop => ['drop'], helo => ['helo']);
always shadow { at connect helo mail rcpt; shadow yes }
always tame { at helo mail; on_reject pass }
always drop { at rcpt; on_reject discard }
always helo { at helo; on_reject discard }
FILTERS
	my ($c, $at, $reply, $delivered) = way($proxy, 'shadow');
	is("$at $delivered", 'end 1', 'a shadow changes nothing');
	like($proxy->summary_of($c)->{gate}, qr{^shadow\@mail:shadow-reject/\d+ms,shadow\@rcpt:shadow-reject/\d+ms$}, 'but the log tells what it would have said');
	($c, $at, $reply, $delivered) = way($proxy, 'tame');
	is("$at $delivered", 'end 1', 'on_reject pass lets pass');
	($c, $at, $reply, $delivered) = way($proxy, 'drop');
	is("$at $delivered", 'end 0', 'on_reject discard drops the recipient');
	($c, $at, $reply, $delivered) = way($proxy, 'helo');
	is("$at $reply", 'mail 451 4.3.0 could not be checked, please try again later', 'at helo there is nothing to drop: a fault');
};

# ---- soft_bounce -----------------------------------------------------------------------------

subtest 'soft_bounce' => sub {
	my $back = SmtpSink->start(rcpt => [ '550 5.1.1 unknown', '250 ok', '250 ok' ], final => '554 5.6.0 no');
	my $proxy = TestProxy->start(<<"CONF");
workers 1
listener front { listen 127.0.0.1:0; backend other; gate conn name sender syntax; soft_bounce yes; max_message 10K; max_errors 3 }
listener closed { listen 127.0.0.1:0; backend other; clients 192.0.2.1; soft_bounce yes }
backend other { hosts @{[ $back->addr ]} }
always conn { at connect; only_client 127.0.0.3 }
always name { at helo; only_helo bad.example; code 554; status 5.7.8; text named }
always sender { at mail; only_sender \@bad.example; code 521 }
always syntax { at mail; only_sender \@syntax.example; code 503 }
always content { only_subject bad; code 555 }
default_chain content
CONF
	is(SmtpClient->new($proxy->addr('front'), local => '127.0.0.3')->read_reply->raw, "421 4.7.1 message refused\r\n", 'at connect');
	is(SmtpClient->new($proxy->addr('closed'))->read_reply->raw, "421 4.7.1 you may not speak to this server\r\n", 'by clients');
	my $c = $proxy->client('front');
	is($c->ehlo('bad.example')->raw, "454 4.7.8 named\r\n", 'at helo');
	is($c->mail('s@example.net'), 503, 'what is out of order stays so');
	is($c->ehlo, 250, 'a good name');
	ok($proxy->wait_log(qr/ gate stage=connect .* code=421 /), 'the log has what the client heard at connect');
	ok($proxy->wait_log(qr/ gate stage=helo .* code=454 /), 'and at helo');
	is($c->mail('s@bad.example')->raw, "450 4.7.1 message refused\r\n", 'at MAIL, and never 421');
	is($c->rcpt('r@example.org'), 503, 'what was pipelined behind it is out of order');
	is($proxy->summary_of($c)->{code}, 450, 'the log has what was said');
	is($c->mail('s@syntax.example'), 450, 'a filter may have any code,') for 1 .. 4;
	$proxy->summary_of($c) for 1 .. 4;
	is($c->noop, 250, 'and it is no error of the client');
	is($c->mail('s@example.net', 'SIZE=20000'), 452, 'a limit');
	$c->mail('s@example.net');
	is($c->rcpt('unknown@example.org')->raw, "450 4.1.1 unknown\r\n", 'the back-end at RCPT');
	ok($proxy->wait_log(qr/ t=\d+ rcpt to=<unknown\@example\.org> code=450 /), 'as the log tells');
	ok($proxy->wait_log(qr/^info \S+ s=\S+ soft_bounce code=550 text=unknown$/m), 'which has what it would have been');
	is($c->command('RCPT TO:<a b>'), 501, 'what cannot be read stays wrong');
	$c->rset;
	is($c->send_message->raw, "454 4.6.0 no\r\n", 'the back-end at the end');
	is($c->send_message(content => "Subject: bad\r\n\r\nx\r\n"), 450, 'the chain');
	is($c->send_message(content => 'x' x 20_000), 452, 'a message that is too large');
};

subtest 'a refusal is no leave to talk for ever' => sub {
	my $proxy = proxy('always sender { at mail }', front => [ 'sender', 'max_errors 4' ]);
	my $c = $proxy->client;
	my @codes;

	$c->ehlo;
	is($c->mail('s@example.net'), 550, 'MAIL is refused');
	$c->send("RCPT TO:<r\@example.org>\r\n" x 1100);
	while (my $reply = $c->read_reply) { push @codes, $reply->code }
	is(join(' ', scalar(grep { $_ == 503 } @codes), $codes[-1]), '1004 421', 'a thousand may be on their way, then max_errors counts');
};

# ---- wrong configurations --------------------------------------------------------------------

my $dir = temp_dir();

sub said
{
	my ($gate, $rest) = @_;
	my $file = write_file("$dir/p", "listener front { listen 127.0.0.1:10025; backend inner; gate $gate }\nbackend inner { discard yes }\n$rest\n");
	my $out = `'@{[ $proxy->program ]}' -T -c '$file' 2>&1 >/dev/null </dev/null`;

	return $out =~ s/^\Q$file\E://gmr;
}

my @wrong = (
	[ 'nobdy', 'always nobody { }', '1:62: gate: there is no filter "nobdy" (did you mean "nobody"?)' ],
	[ 'a a', 'always a { }', '1:64: gate: the filter "a" stands in it twice' ],
	[ 'none a', 'always a { }', '1:62: gate: "none" stands alone or not at all' ],
	[ 'h', "header h { add X-A b }", '1:62: gate: header h is asked about whole messages only, so it belongs in a chain' ],
	[ 'a', 'always a { at message }', '1:62: gate: always a is asked about whole messages only, so it belongs in a chain' ],
	[ 'a', 'always a { only_subject x }', '1:62: gate: always a has only_subject, which is not known before the message is here: it can stand in a chain, not in a gate' ],
	[ 'a', 'always a { only_larger 1K }', '1:62: gate: always a has only_larger, which is not known before the message is here: it can stand in a chain, not in a gate' ],
	[ 'a', 'always a { only_recipient x@example.org }', '1:62: gate: always a is asked at mail, and only_recipient is not known before rcpt, so it would never be at work' ],
	[ 'a', 'always a { at connect; only_helo x.example }', '1:62: gate: always a is asked at connect, and only_helo is not known before helo, so it would never be at work' ],
	[ 'a', 'always a { at mial }', '3:1: always a: at: there is no stage "mial" (did you mean "mail"?)' ],
	[ 'a', 'always a { at 17 }', '3:1: always a: at: there is no stage "17" (there are: connect helo mail rcpt message)' ],
	[ 'a', 'always a { at helo; verdict discard }', '3:1: always a: at: there is no message to discard at connect and helo (try at mail)' ],
	[ 'none', "always a { at mail }\ndefault_chain a", '4:15: default_chain: always a is asked while the envelope is given, so it belongs in the gate of a listener' ],
	[ 'none', "rate a { limit 1 }\nrule { chain a }", '4:14: chain: rate a is asked while the envelope is given, so it belongs in the gate of a listener' ],
	[ 'none', 'rate a { limit 1 }', '3:1: warning: rate a stands in no gate (try gate a in a listener)' ],
);
is(said($_->[0], $_->[1]), "$_->[2]\n", "told: gate $_->[0], $_->[1]") for @wrong;
is(said('a', 'always a { at connect rcpt; only_recipient x@example.org }'), '', 'a condition may hold at some stages only');

done_testing;
