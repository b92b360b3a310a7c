#!/usr/bin/perl
# While a filter of the gate thinks: the client waits, leaves, speaks too early; the engine stops, or another takes over.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;
use Time::HiRes qw(time);

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $sink = SmtpSink->start;
my $health = free_port();
my $ms = int(500 * $TestUtil::PATIENCE);
my $conf = <<"CONF";
workers 2
health { listen 127.0.0.1:$health }
backend inner { hosts @{[ $sink->addr ]} }
dummy forever { at connect helo mail rcpt; wait 1h; timeout 1h; only_client 127.0.0.2 }
dummy short { at connect helo mail rcpt; wait 150ms }
dummy endless { at connect helo mail rcpt; wait 1h; timeout 1h }
dummy hour { at connect; wait 1h; timeout 1h }
dummy first { at helo; wait 1h; timeout 1h }
dummy second { at mail; wait 1h; timeout 1h }
dummy third { at rcpt; wait 1h; timeout 1h }
listener short { listen 127.0.0.1:0; backend inner; gate short }
listener early { listen 127.0.0.1:0; backend inner; gate short; early_talker 400ms }
listener quick { listen 127.0.0.1:0; backend inner; gate short; early_talker 20ms }
listener budget { listen 127.0.0.1:0; backend inner; gate endless; budget 1s; final_reserve 500ms }
listener connect { listen 127.0.0.1:0; backend inner; gate hour; idle_timeout ${ms}ms; command_timeout ${ms}ms }
listener earlyconnect { listen 127.0.0.1:0; backend inner; gate hour; early_talker 50ms }
listener helo { listen 127.0.0.1:0; backend inner; gate first; idle_timeout ${ms}ms; command_timeout ${ms}ms }
listener mail { listen 127.0.0.1:0; backend inner; gate second; command_timeout ${ms}ms }
listener rcpt { listen 127.0.0.1:0; backend inner; gate third; command_timeout ${ms}ms; early_hold 50ms }
CONF
my $proxy = TestProxy->start($conf);

# A client that waits for the answer to this stage.
sub waiting
{
	my ($proxy, $stage) = @_;
	my $c = SmtpClient->new($proxy->addr($stage));

	return $c if $stage eq 'connect' || $stage eq 'earlyconnect';
	$c->expect(220);
	$c->send("EHLO client.example\r\n");
	return $c if $stage eq 'helo';
	$c->expect(250);
	$c->send("MAIL FROM:<s\@example.net>\r\n");
	return $c if $stage eq 'mail';
	$c->expect(250);
	$c->send("RCPT TO:<r\@example.org>\r\n");
	return $c;
}

my %filter = (connect => 'hour', earlyconnect => 'hour', helo => 'first', mail => 'second', rcpt => 'third');

# How many runs of a filter are under way, by the health port.
sub running
{
	my ($filter, $port) = @_;
	require HttpClient;
	my $page = HttpClient::get('127.0.0.1:' . ($port // $health), '/metrics')->{body};

	return $page =~ /^postern_filter_running\{filter="\Q$filter\E"\} (\d+)$/m ? $1 : -1;
}

subtest 'every reply waits for its filter' => sub {
	my $begin = time;
	my $c = SmtpClient->new($proxy->addr('short'));

	for my $step ([ 'the greeting', sub { $c->read_reply }, 220 ], [ 'EHLO', sub { $c->ehlo }, 250 ],
		[ 'MAIL', sub { $c->mail('s@example.net') }, 250 ], [ 'RCPT', sub { $c->rcpt('r@example.org') }, 250 ],
		[ 'another', sub { $c->rcpt('q@example.org') }, 250 ]) {
		my $begin = time;
		is($step->[1]->(), $step->[2], $step->[0]);
		cmp_ok(time - $begin, '>=', 0.14, 'after a while');
	}
	is($c->data, 354, 'and nothing else does');
	$c->send(".\r\n");
	is($c->read_reply, 250, 'to the end');
	like($proxy->summary_of($c)->{gate}, qr{^short\@mail:pass/(?:1\d\d|[2-9]\d\d|\d{4,})ms,short\@rcpt:pass\*2/(?:[3-9]\d\d|\d{4,})ms$}, 'the log has the times');
};

subtest 'what comes meanwhile waits' => sub {
	my $c = SmtpClient->new($proxy->addr('short'));

	# Without early_talker haste is no fault.
	$c->send("EHLO x.example\r\n");
	is($c->read_reply, 220, 'before the greeting');
	is($c->read_reply, 250, 'a command is heard behind it');
	my $content = "Subject: x\r\n\r\nx\r\n.\r\n";
	$c->send("MAIL FROM:<s\@example.net>\r\nRCPT TO:<r\@example.org>\r\nRCPT TO:<q\@example.org>\r\nDATA\r\n");
	is(join(' ', map { $c->read_reply->code } 1 .. 4), '250 250 250 354', 'a group is answered in order');
	$c->send("${content}QUIT\r\n");
	$c->half_close;
	is(join(' ', map { $c->read_reply->code } 1 .. 2), '250 221', 'to the end');

	$c = SmtpClient->new($proxy->addr('short'));
	$c->send("EHLO x.example\r\nQUIT\r\n");
	$c->half_close;
	is(join(' ', map { $c->read_reply->code } 1 .. 3), '220 503 221', 'QUIT and the end of what it says are waited with');
};

subtest 'with early_talker' => sub {
	my $begin = time;
	my $c = SmtpClient->new($proxy->addr('early'));
	is($c->read_reply, 220, 'the greeting comes');
	cmp_ok(time - $begin, '>=', 0.39, 'when the hold is over, if the filter was quicker');
	is($c->ehlo, 250, 'and the session goes on');
	$begin = time;
	$c = SmtpClient->new($proxy->addr('quick'));
	is($c->read_reply, 220, 'or');
	cmp_ok(time - $begin, '>=', 0.14, 'when the filter has answered, if that was slower');
	is($c->ehlo, 250, 'and the session goes on');
	$c = SmtpClient->new($proxy->addr('early'));
	$c->send('E');
	is($c->read_reply->raw, "554 5.5.0 clients must wait for the greeting\r\n", 'who does not wait is told so');
	ok($c->wait_eof, 'and cut');
	$c = SmtpClient->new($proxy->addr('earlyconnect'));
	ok($c->is_silent(0.3), 'behind the hold');
	$c->send('E');
	is($c->read_reply, 554, 'it is still before the greeting');
	ok($c->wait_eof, 'so it is cut, too');
	ok((wait_until { running('hour') == 0 }), 'and the filter is cancelled');
};

subtest 'a command has a budget' => sub {
	my $c = SmtpClient->new($proxy->addr('budget'));
	my $begin = time;

	is($c->read_reply, 220, 'a fault at connect passes');
	cmp_ok(time - $begin, '>=', 0.9, 'when it is over');
	is($c->ehlo, 250, 'as at helo');
	is($c->mail('s@example.net')->raw, "451 4.3.0 could not be checked, please try again later\r\n", 'MAIL is put off');
	ok($proxy->wait_log(qr/ filter filter=endless err="the time for the whole command is used up" on_failure=tempfail$/m), 'the log says why');
};

for my $stage (qw(connect earlyconnect helo mail rcpt)) {
	subtest "at $stage" => sub {
		my $c = waiting($proxy, $stage);
		ok((wait_until { running($filter{$stage}) == 1 }), 'a filter thinks');
		ok($c->is_silent(0.8 * $TestUtil::PATIENCE), 'no timeout of the client ends that');
		$c->close;
		ok((wait_until { running($filter{$stage}) == 0 }), 'when the client closes it is cancelled');
		$c = waiting($proxy, $stage);
		ok((wait_until { running($filter{$stage}) == 1 }), 'another one');
		$c->reset;
		ok((wait_until { running($filter{$stage}) == 0 }), 'is reset');
		ok($proxy->wait_log(qr/ disconnect client=\S+ listener=$stage why=eof /), 'the log has the one');
		ok($proxy->wait_log(qr/ disconnect client=\S+ listener=$stage why=broken /), 'and the other');
		if ($stage eq 'mail' || $stage eq 'rcpt') {
			my $line = $proxy->summary_of($c);
			is("$line->{verdict} $line->{why}", 'abandoned broken', 'and the transaction');
			like($line->{gate}, qr{^$filter{$stage}\@$stage:cancelled/\d+ms$}, 'with what was asked');
		}
	};
}

subtest 'a stop' => sub {
	my %waits = map { $_ => waiting($proxy, $_) } qw(connect earlyconnect helo mail rcpt);

	for my $filter (qw(first second third)) {
		wait_until { running('hour') == 2 && running($filter) == 1 };
	}
	$proxy->signal('TERM');
	for my $stage (qw(connect earlyconnect)) {
		is($waits{$stage}->read_reply, 421, "$stage: who has not been greeted is sent away");
		ok($waits{$stage}->wait_eof, 'at once');
	}
	ok($waits{$_}->is_silent(0.2), "$_: who is asked about waits on") for qw(helo mail rcpt);
	$proxy->signal('TERM');
	is($proxy->stop, 0, 'a second one ends it all');
	ok($waits{$_}->wait_eof, "$_: is cut") for qw(helo mail rcpt);
};

subtest 'a drain' => sub {
	my $port = free_port();
	my $slow = TestProxy->start(<<"CONF");
workers 1
health { listen 127.0.0.1:$port }
backend inner { hosts @{[ $sink->addr ]} }
dummy name { at helo; wait 3s; only_helo slow.example }
dummy slow { at mail rcpt; wait 3s }
listener front { listen 127.0.0.1:0; backend inner; gate name slow }
CONF
	my ($helo, $mail, $rcpt) = map { $slow->client } 1 .. 3;

	$_->ehlo for $mail, $rcpt;
	$rcpt->mail('s@example.net');
	$helo->send("EHLO slow.example\r\n");
	$mail->send("MAIL FROM:<s\@example.net>\r\n");
	$rcpt->send("RCPT TO:<r\@example.org>\r\n");
	ok((wait_until { running('slow', $port) == 2 && running('name', $port) == 1 }), 'three clients wait');
	$slow->signal('TERM');
	is($helo->read_reply, 250, 'who waits at EHLO hears its answer');
	is($helo->read_reply, 421, 'and that we close');
	is($mail->read_reply, 250, 'who waits at MAIL');
	is($mail->rcpt('r@example.org'), 250, 'may end the transaction');
	is($rcpt->read_reply, 250, 'as who waits at RCPT');
	for my $c ($mail, $rcpt) {
		is($c->data, 354, 'with content');
		$c->send("Subject: x\r\n\r\nx\r\n.\r\n");
		is($c->read_reply, 250, 'is taken');
		is($c->read_reply, 421, 'then we close');
	}
	is($slow->stop, 0, 'and the program ends');
};

subtest 'a reload' => sub {
	my $text = sub { return "workers 1\nbackend inner { hosts @{[ $sink->addr ]} }\nlistener front { listen 127.0.0.1:0; backend inner; $_[0] }\n$_[1]\n" };
	my $p = TestProxy->start($text->('', ''));
	my ($a, $b) = map { $p->client } 1 .. 2;

	$_->ehlo for $a, $b;
	is($a->send_message, 250, 'without a gate');
	$p->write_conf($text->('gate conn', "always conn { at connect }"));
	is($p->reload, 'done', 'a new configuration has one');
	is($a->mail('s@example.net')->raw, "550 5.7.1 message refused\r\n", 'who is here is asked about at MAIL');
	is(SmtpClient->new($p->addr)->read_reply, 554, 'who comes, before the greeting');
	is($b->ehlo, 250, 'a name is another question');
	$p->write_conf($text->('', ''));
	is($p->reload, 'done', 'and when it is gone');
	is($_->send_message, 250, 'nobody is asked any more') for $a, $b;
};

done_testing;
