#!/usr/bin/perl
# Several hosts in a back-end: which one gets a message, and what happens when one fails.
use strict;
use warnings;
use Test::More;
use Time::HiRes 'time';
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'starts its own proxy again and again' if $ENV{POSTERN_TEST_ADDR};

my $TIMEOUT = int(1000 * $TestUtil::PATIENCE);
my $BIG = 'Subject: big' . "\r\n\r\n" . ('0123456789 ' x 7 . "\r\n") x 60_000;

# %opt: backend and listener (more options), workers, up (how many hosts are there), more (sections).
sub start
{
	my ($sinks, %opt) = @_;
	my ($backend, $listener) = ($opt{backend} // '', $opt{listener} // '');

	my $proxy = TestProxy->start(<<"CONF");
workers @{[ $opt{workers} // 1 ]}
log { level debug }
listener early { listen 127.0.0.1:0; backend inner; $listener }
listener late { listen 127.0.0.1:0; backend inner; envelope late; $listener }
backend inner { hosts @{[ map { $_->addr } @$sinks ]}; $backend }
@{[ $opt{more} // '' ]}
CONF
	# All are asked at the start.
	wait_state($proxy, $_, 'up|down') or die 'no host is known' for @$sinks;
	return $proxy;
}

# What the log says of a host, in order: "up down up".
sub states
{
	my ($proxy, $sink) = @_;
	my $addr = quotemeta $sink->addr;

	return $proxy->log =~ /^(?!debug).* backend backend=inner state=(up|down) host=$addr /mg;
}

sub wait_state
{
	my ($proxy, $sink, $state, $n) = @_;

	return wait_until { (grep { /^(?:$state)$/ } states($proxy, $sink)) >= ($n // 1) };
}

sub counts { return join ' ', map { $_->count } @_ }

sub message { return (content => "Subject: $_[0]\r\n\r\ntest\r\n") }

sub subjects { my ($sink) = @_; return map { $_->{content} =~ /^Subject: (.*?)\r$/m } $sink->messages }

# A session with its message ready: only the final dot is missing.
sub ready
{
	my ($proxy, $listener, $subject) = @_;
	my $c = $proxy->client($listener, timeout => 30);

	$c->ehlo;
	$c->send("MAIL FROM:<a\@example.net>\r\nRCPT TO:<b\@example.org>\r\nDATA\r\n");
	$c->expect(250, 354) for 1 .. 3;
	$c->send("Subject: $subject\r\n\r\ntest\r\n");
	return $c;
}

# A host that has said EHLO words but offers these from now on.
sub offers { my ($sink, @words) = @_; $sink->script(ehlo => join "\n", '250 sink.example', @words); return }

# ---- the choice ----------------------------------------------------------------------------

subtest 'order: the first one gets all' => sub {
	my @sinks = map { SmtpSink->start } 1 .. 3;
	my $proxy = start(\@sinks, workers => 2);

	is $proxy->client($_ % 2 ? 'early' : 'late')->send_message, 250, "message $_" for 1 .. 10;
	is counts(@sinks), '10 0 0', 'the others get none';
	is scalar(grep { /^EHLO/ } $sinks[2]->commands), 1, 'they were only asked what they offer';
	is_deeply [map { states($proxy, $_) } @sinks], ['up', 'up', 'up'], 'the log says that they are there';
	my ($host) = map { $_->{backend} } $proxy->wait_summary(1);
	is $host, 'inner/' . $sinks[0]->addr, 'and who got a message';
};

subtest 'round-robin: all get the same share' => sub {
	my @sinks = map { SmtpSink->start } 1 .. 3;
	my $proxy = start(\@sinks, backend => 'balance round-robin');
	my $c = $proxy->client('late');

	is $c->send_message(message($_)), 250, "message $_" for 1 .. 12;
	is counts(@sinks), '4 4 4', 'one after the other';
	$sinks[1]->stop;
	is $c->send_message(message($_)), 250, "message $_, one is away" for 13 .. 24;
	is counts(@sinks[0, 2]), '10 10', 'the two that are left share evenly';
	is_deeply [states($proxy, $sinks[1])], ['up', 'down'], 'the one that went was found out';
};

subtest 'round-robin: whose idle connection it is does not matter' => sub {
	my @sinks = map { SmtpSink->start } 1 .. 2;
	my $proxy = start(\@sinks, backend => 'balance round-robin; max_connections 1', workers => 4);

	is $proxy->client($_ % 2 ? 'early' : 'late')->send_message(message($_)), 250, "message $_" for 1 .. 20;
	is $sinks[0]->count + $sinks[1]->count, 20, 'all have arrived';
	# The second host's connection of the start went as there was no room for it.
	is $sinks[0]->connections + $sinks[1]->connections, 2, 'over the only connection';
};

subtest 'least: the one that is not busy' => sub {
	my @sinks = map { SmtpSink->start(final => { reply => '250 ok', wait => 'go' }) } 1 .. 3;
	my $proxy = start(\@sinks, backend => 'balance least');
	my @c = map { ready($proxy, 'late', $_) } 1 .. 6;

	for my $i (0 .. $#c) {
		$c[$i]->send(".\r\n");
		my $busy = wait_until { (() = join('', map { $_->events } @sinks) =~ /waits go/g) == $i + 1 };
		ok $busy, "message $i is at a host";
	}
	$_->release('go') for @sinks;
	is $_->read_reply, 250, 'delivered' for @c;
	is counts(@sinks), '2 2 2', 'each had two at a time';
	$_->script(final => '250 ok') for @sinks;
	is $c[0]->send_message(message($_)), 250, 'one at a time' for 1 .. 3;
	is counts(@sinks), '5 2 2', 'goes to the first';
};

subtest 'one count over all hosts' => sub {
	my @sinks = map { SmtpSink->start } 1 .. 2;
	my $proxy = start(\@sinks, backend => 'balance round-robin; max_connections 3', workers => 2);
	my @c = map { ready($proxy, 'late', $_) } 1 .. 60;

	$_->send(".\r\n") for @c;
	is scalar(grep { $_->read_reply != 250 } @c), 0, 'all messages pass';
	is $sinks[0]->count + $sinks[1]->count, 60, 'and are there';
	cmp_ok $sinks[0]->connections + $sinks[1]->connections, '<=', 3 + 2, 'over three connections (two are of the start)';
	cmp_ok $_->count, '>', 0, 'to both' for @sinks;
};

subtest 'an IPv6 address and a Unix socket are hosts, too' => sub {
	my @sinks = (SmtpSink->start(address => '[::1]:0'), SmtpSink->start(path => temp_dir() . '-s'),
		SmtpSink->start);
	chmod 0777, $sinks[1]->addr =~ s/^unix://r;
	my $proxy = start(\@sinks, backend => 'balance round-robin');

	is $proxy->client('late')->send_message, 250, "message $_" for 1 .. 6;
	is counts(@sinks), '2 2 2', 'each gets its share';
	$sinks[0]->stop;
	$sinks[2]->stop;
	is $proxy->client('late')->send_message, 250, 'only the Unix socket is left' for 1 .. 3;
	is $sinks[1]->count, 5, 'it gets all';
};

subtest 'a name with several addresses' => sub {
	my $sink = SmtpSink->start; # on 127.0.0.1, not on ::1
	my $other = SmtpSink->start;
	my $proxy = TestProxy->start(<<"CONF");
listener late { listen 127.0.0.1:0; backend inner; envelope late }
backend inner { hosts localhost:@{[ $sink->port ]} @{[ $other->addr ]}; max_idle 0 }
CONF
	ok $proxy->wait_log(qr/state=up host=localhost:/), 'is found';
	is $proxy->client->send_message, 250, 'a message' for 1 .. 3;
	is counts($sink, $other), '3 0', 'gets there';
	$sink->stop;
	is $proxy->client->send_message, 250, 'a message' for 1 .. 3;
	is counts($other), '3', 'and with none of its addresses left to the next host';
};

# ---- a host that cannot be had -------------------------------------------------------------

# What it does, and the options that bound our patience.
my @AWAY = (
	['refuses connections', sub { $_[0]->stop }],
	['takes connections and is silent', sub { $_[0]->script(greeting => 'silent') }],
	['is closing at the greeting', sub { $_[0]->script(greeting => 'close') }],
	['refuses us', sub { $_[0]->script(greeting => '554 5.7.1 go away') }],
	['has no time', sub { $_[0]->script(greeting => '421 4.3.2 busy') }],
	['greets with garbage', sub { $_[0]->script(greeting => { raw => "\1\2\r\n" }) }],
	['says 421 to EHLO', sub { $_[0]->script(ehlo => '421 4.3.2 busy') }],
	['is silent at EHLO', sub { $_[0]->script(ehlo => 'silent') }],
	['breaks off at EHLO', sub { $_[0]->script(ehlo => 'rst') }],
	['refuses EHLO and HELO', sub { $_[0]->script(ehlo => '550 no', helo => '550 no') }],
);

for my $envelope (qw(early late)) {
	for my $case (@AWAY) {
		my ($name, $do) = @$case;

		subtest "$envelope: the first host $name" => sub {
			my @sinks = map { SmtpSink->start } 1 .. 2;
			# Every message has its own connection; no probe disturbs.
			my $budget = 'budget ' . 4 * $TestUtil::PATIENCE . 's; final_reserve 0s';
			my $proxy = start(\@sinks, backend => 'max_idle 0; probe_interval 1h', listener => $budget);

			is $proxy->client($envelope)->send_message(message('before')), 250, 'a message before it';
			$do->($sinks[0]);
			is $proxy->client($envelope)->send_message(message($_)), 250, "message $_" for 1 .. 3;
			is_deeply [subjects($sinks[1])], [1 .. 3], 'the next one gets them, once';
			is $sinks[0]->count, 1, 'the first one none of them';
			is_deeply [states($proxy, $sinks[0])], ['up', 'down'], 'the log says once that it is down';
			is_deeply [states($proxy, $sinks[1])], ['up'], 'and nothing of the other';
		};
	}

	subtest "$envelope: all hosts are away" => sub {
		my @sinks = map { SmtpSink->start } 1 .. 3;
		my $proxy = start(\@sinks, backend => 'max_idle 0; probe_interval 1h');

		$_->stop for @sinks;
		is $proxy->client($envelope)->send_message(message($_)), 451, "message $_ is to come again" for 1 .. 3;
		is_deeply [map { join ' ', states($proxy, $_) } @sinks], [('up down') x 3], 'each was tried, and told once';
		$sinks[2]->restart;
		is $proxy->client($envelope)->send_message, 250, 'one that has just come back is found at once';
		is_deeply [states($proxy, $sinks[2])], [qw(up down up)], 'and up';
		$sinks[0]->restart;
		$sinks[2]->stop;
		is $proxy->client($envelope)->send_message, 250, 'so is the next one';
	};
}

subtest 'silence is borne only for a while when there is another host' => sub {
	my @sinks = map { SmtpSink->start } 1 .. 2;
	my $proxy = start(\@sinks, backend => 'max_idle 0; probe_interval 1h');
	my $c = $proxy->client('early', timeout => 60);

	$sinks[0]->script(greeting => 'silent');
	my $begin = time;
	is $c->send_message, 250, 'a message';
	my $took = time - $begin;
	cmp_ok $took, '<', 30, 'soon';
	note sprintf 'the next host took over in %.1f s', $took;
};

subtest 'two silent hosts share the budget' => sub {
	my @sinks = map { SmtpSink->start } 1 .. 2;
	my $budget = 4 * $TestUtil::PATIENCE;
	my $proxy = start(\@sinks, backend => 'max_idle 0; probe_interval 1h', listener => "budget ${budget}s; final_reserve 0s");
	my $c = $proxy->client('early');

	$sinks[0]->script(greeting => 'silent');
	is $c->send_message, 250, 'a message';
	$sinks[1]->script(greeting => 'silent');
	$sinks[0]->script(greeting => { reply => '220 slow', wait => 'go' });
	my $before = $sinks[0]->connections;
	$c->send("MAIL FROM:<a\@example.net>\r\n");
	my $asked = wait_until { $sinks[0]->connections > $before } 30;
	ok $asked, 'when the other one is silent, the first is asked again';
	$sinks[0]->release('go');
	is $c->read_reply, 250, 'and waited for';
};

subtest 'a host that was away at the start is found out before the first message' => sub {
	my @sinks = map { SmtpSink->start } 1 .. 2;
	$sinks[0]->stop;
	my $proxy = start(\@sinks, backend => 'probe_interval 1h');

	is_deeply [states($proxy, $sinks[0])], ['down'], 'it is down';
	is $proxy->client->send_message, 250, 'a message';
	is $sinks[1]->count, 1, 'goes to the other one';
};

subtest 'order: when the first host is back, traffic returns to it' => sub {
	my @sinks = map { SmtpSink->start } 1 .. 2;
	my $proxy = start(\@sinks, backend => 'idle_timeout 300ms', workers => 2);

	is $proxy->client->send_message, 250, 'a message';
	$sinks[0]->stop;
	is $proxy->client($_)->send_message, 250, "$_: a message while it is away" for qw(early late);
	is counts(@sinks), '1 2', 'at the second host';
	$sinks[0]->restart;
	ok wait_state($proxy, $sinks[0], 'up', 2), 'a probe finds it';
	is $proxy->client($_)->send_message, 250, "$_: a message" for qw(early late);
	is counts(@sinks), '3 2', 'at the first host';
	my $gone = wait_until { my $open = 0; $open += $_ eq 'open' ? 1 : -1 for $sinks[1]->events =~ /^\d+ (open|end)\b/mg; !$open };
	ok $gone, 'the connections to the second one are ended by idle_timeout';
};

subtest 'order: traffic returns also when all connections are in use' => sub {
	my @sinks = map { SmtpSink->start } 1 .. 2;
	my $proxy = start(\@sinks, backend => 'max_connections 1', workers => 4);

	$sinks[0]->stop;
	is $proxy->client($_ % 2 ? 'early' : 'late')->send_message, 250, 'a message while it is away' for 1 .. 6;
	is $sinks[1]->count, 6, 'at the second host';
	$sinks[0]->restart;
	ok wait_state($proxy, $sinks[0], 'up', 2), 'a probe finds it';
	is $proxy->client($_ % 2 ? 'early' : 'late')->send_message, 250, 'a message' for 1 .. 6;
	is counts(@sinks), '6 6', 'at the first host, in place of the idle connection to the other';
};

subtest 'probes: after a second, then with growing pauses, and one at a time' => sub {
	my @sinks = map { SmtpSink->start } 1 .. 2;
	my $proxy = start(\@sinks, backend => 'probe_interval 1h');

	$sinks[0]->restart(greeting => '421 4.3.2 not yet');
	is $proxy->client->send_message, 250, 'a message finds the host busy' for 1 .. 5;
	my $before = $sinks[0]->connections;
	ok wait_until { $sinks[0]->connections >= $before + 2 }, 'it is asked again and again';
	my @probes = $proxy->log =~ /^debug \S+ backend .*state=down/mg;
	cmp_ok scalar(@probes), '>=', 1, 'what it says is in the debug log';
	is_deeply [states($proxy, $sinks[0])], ['up', 'down'], 'and only there';
	$sinks[0]->script(greeting => '220 hello');
	ok wait_state($proxy, $sinks[0], 'up', 2), 'until it is up';
	is $proxy->client->send_message, 250, 'a message';
	is $sinks[1]->count, 5, 'does not go to the other any more';
};

subtest 'a probe takes no mail\'s place' => sub {
	my @sinks = map { SmtpSink->start } 1 .. 2;
	my $proxy = start(\@sinks, backend => 'max_connections 1; probe_interval 100ms');

	$sinks[0]->stop;
	is $proxy->client('late')->send_message, 250, 'a message finds a host away';
	$sinks[0]->restart(greeting => 'silent');
	ok $sinks[0]->wait_event(qr/(?: open.*){2}/s), 'which is back and silent, as a probe finds';
	is $proxy->client('late')->send_message, 250, 'a message' for 1 .. 20;
	is $sinks[1]->count, 21, 'passes meanwhile at the other';
};

# ---- a host that fails in the middle -------------------------------------------------------

my @FAULTS = (
	['closes', 'close'],
	['resets', 'rst'],
	['says 421', '421 4.3.2 shutting down'],
	['says garbage', { raw => "\1\2\r\n" }],
	['is silent', 'silent'],
);

for my $case (@FAULTS) {
	my ($name, $fault) = @$case;

	for my $at (qw(late/mail late/rcpt late/data late/body early/mail early/data early/body)) {
		my ($envelope, $step) = split m{/}, $at;
		next if $step eq 'body' && $fault eq 'silent';

		subtest "$envelope: the first host $name at $step" => sub {
			my @sinks = map { SmtpSink->start } 1 .. 2;
			my $proxy = start(\@sinks, backend => "max_idle 0; command_timeout ${TIMEOUT}ms; probe_interval 1h");
			my $do = $step ne 'body' ? $fault : ref $fault ? { %$fault, at => 100_000, then => 'close' }
			    : $fault =~ /^\d/ ? { reply => $fault, at => 100_000, then => 'close' } : { then => $fault, at => 100_000 };

			$sinks[0]->script($step => $do);
			my $c = $proxy->client($envelope);
			my $reply = $c->send_message(content => $BIG, to => ['b@example.org', 'c@example.org']);
			is $reply, 250, 'the message passes';
			is counts(@sinks), '0 1', 'the next host has it, once';
			my ($txn) = $sinks[1]->messages;
			is_deeply $txn->{rcpt_ok}, ['TO:<b@example.org>', 'TO:<c@example.org>'], 'for all recipients';
			cmp_ok length $txn->{content}, '>', length $BIG, 'whole';
			my $summary = $proxy->wait_summary(1);
			is $summary->{backend}, 'inner/' . $sinks[1]->addr, 'as the summary says';
			is_deeply [states($proxy, $sinks[0])], $fault eq 'silent' ? ['up', 'down'] : ['up'],
			    $fault eq 'silent' ? 'the first host is down' : 'the first host is not down for that';
		};
	}

	subtest "early: the first host $name at RCPT" => sub {
		my @sinks = map { SmtpSink->start } 1 .. 2;
		my $proxy = start(\@sinks, backend => "max_idle 0; command_timeout ${TIMEOUT}ms; probe_interval 1h");

		$sinks[0]->script(rcpt => ['250 ok', $fault, '250 ok']);
		my $c = $proxy->client('early');
		$c->ehlo;
		is $c->mail('a@example.net'), 250, 'MAIL';
		is $c->rcpt('b@example.org'), 250, 'RCPT';
		is $c->rcpt('c@example.org'), 451, 'this one is to come again';
		$sinks[0]->script(mail => $fault);
		is $c->data, 354, 'DATA';
		$c->send("Subject: x\r\n\r\n.\r\n");
		is $c->read_reply, 250, 'and the other passes';
		is counts(@sinks), '0 1', 'at the next host';
	};

	for my $envelope (qw(early late)) {
		subtest "$envelope: the first host $name after the dot" => sub {
			my @sinks = map { SmtpSink->start } 1 .. 2;
			my $proxy = start(\@sinks, backend => "max_idle 0; final_timeout ${TIMEOUT}ms; probe_interval 1h");

			$sinks[0]->script(final => $fault);
			is $proxy->client($envelope)->send_message, 451, 'the message is to come again';
			is counts(@sinks), '0 0', 'it is never given to another host';
			is scalar(grep { /^MAIL/ } $sinks[1]->commands), 0, 'nor its envelope';
		};

		subtest "$envelope: all hosts: $name" => sub {
			my @sinks = map { SmtpSink->start(data => $fault) } 1 .. 3;
			my $proxy = start(\@sinks, backend => "max_idle 0; command_timeout ${TIMEOUT}ms; probe_interval 1h");

			is $proxy->client($envelope)->send_message, 451, 'the message is to come again';
			is_deeply [map { scalar grep { /^DATA/ } $_->commands } @sinks], [1, 1, 1], 'each was asked once';
		};
	}
}

for my $envelope (qw(early late)) {
	for my $step (qw(mail rcpt data final)) {
		subtest "$envelope: a refusal at $step is an answer" => sub {
			my @sinks = map { SmtpSink->start } 1 .. 2;
			my $proxy = start(\@sinks);

			for my $refusal ('550 5.2.1 no', '452 4.2.2 not now') {
				$sinks[0]->script($step => $refusal);
				is $proxy->client($envelope)->send_message->raw, "$refusal\r\n", 'the front gets it';
			}
			is scalar(grep { /^MAIL/ } $sinks[1]->commands), 0, 'the other host is not asked';
		};
	}
}

subtest 'early: the next host answers a recipient otherwise than the front was told' => sub {
	my @sinks = (SmtpSink->start(data => 'close'), SmtpSink->start(rcpt => ['250 ok', '550 5.1.1 unknown', '250 ok']));
	my $proxy = start(\@sinks, backend => 'probe_interval 1h');
	my $c = $proxy->client('early');

	is $c->send_message(to => ['b@example.org', 'c@example.org']), 451, 'all come again';
	is counts(@sinks), '0 0', 'nothing was delivered';
	is $c->mail('sender@example.net'), 250, 'and then';
	is $c->rcpt('b@example.org'), 250, 'the first';
	is $c->rcpt('c@example.org'), 452, 'and the second come one at a time';
};

subtest 'early: the next host refuses all recipients' => sub {
	my @sinks = (SmtpSink->start(data => 'close'), SmtpSink->start(rcpt => '550 5.1.1 unknown'));
	my $proxy = start(\@sinks, backend => 'probe_interval 1h');

	is $proxy->client('early')->send_message->raw, "550 5.1.1 unknown\r\n", 'the front hears it at the end of data';
	is counts(@sinks), '0 0', 'nothing was delivered';
};

subtest 'a 421 is told when no other host can be reached' => sub {
	for my $envelope (qw(early late)) {
		my @sinks = map { SmtpSink->start } 1 .. 2;
		my $proxy = start(\@sinks, backend => 'max_idle 0; probe_interval 1h');

		$sinks[0]->script(mail => '421 4.3.2 shutting down');
		$sinks[1]->stop;
		is $proxy->client($envelope)->send_message->raw, "451 4.3.2 shutting down\r\n", $envelope;
	}
};

subtest 'an idle connection that died is replaced at the same host first' => sub {
	for my $envelope (qw(early late)) {
		my @sinks = map { SmtpSink->start } 1 .. 2;
		my $proxy = start(\@sinks);
		my $c = $proxy->client($envelope);

		$sinks[0]->script(mail => ['250 ok', 'close', '250 ok']);
		is $c->send_message, 250, 'a message';
		is $c->send_message, 250, "$envelope: the next one";
		is counts(@sinks), '2 0', 'went to the first host, too';
	}
};

# ---- a host that greets and then hangs -----------------------------------------------------

# As by default, command_timeout is much longer than the budget. The first connections greet, the others wait.
sub start_hanging
{
	my ($step, $greetings, $hosts, $budget, $more) = @_;
	my @sinks = map { SmtpSink->start } 1 .. $hosts // 2;
	$budget = 'budget ' . ($budget // 6) * $TestUtil::PATIENCE . 's; final_reserve 0s';
	my $proxy = start(\@sinks, backend => 'max_idle 0; command_timeout 60s; probe_interval 1h', listener => $budget,
		more => $more);

	$sinks[0]->script($step => 'silent',
		greeting => [('220 hello') x $greetings, { reply => '421 4.3.2 not yet', wait => 'go' }]);
	return ($proxy, @sinks);
}

sub mails { my ($sink) = @_; return scalar grep { /^MAIL/ } $sink->commands }

for my $at (qw(early/mail early/rcpt early/data late/mail late/rcpt late/data)) {
	my ($envelope, $step) = split m{/}, $at;

	subtest "$envelope: the first host hangs at $step" => sub {
		my ($proxy, @sinks) = start_hanging($step, 1);
		my $c = $proxy->client($envelope);

		is $c->send_message(message('first')), 250, 'the message passes within the budget';
		is_deeply [subjects($sinks[1])], ['first'], 'at the next host, once';
		is_deeply [states($proxy, $sinks[0])], ['up', 'down'], 'the first one is down';
		is $c->send_message(message('second')), 250, 'the next message';
		is_deeply [subjects($sinks[1])], ['first', 'second'], 'goes to the next host';
		is mails($sinks[0]), 1, 'at once';
		$sinks[0]->script($step => $step eq 'data' ? '354 go' : '250 ok', greeting => '220 hello');
		$sinks[0]->release('go');
		ok wait_until { $c->send_message(message('again')) != 250 || $sinks[0]->count }, 'later it is tried again';
		is_deeply [subjects($sinks[0])], ['again'], 'gets a message';
		ok wait_state($proxy, $sinks[0], 'up', 2), 'and is up';
		my $before = $sinks[1]->count;
		is $c->send_message(message('last')), 250, 'a message';
		is $sinks[1]->count, $before, 'goes there again';
	};
}

subtest 'one that greets and still hangs is tried by one message' => sub {
	my ($proxy, @sinks) = start_hanging('mail', 3); # a message, a probe, a trial
	my @c = map { my $c = $proxy->client('late'); $c->ehlo; $c } 1 .. 3;

	is $c[0]->send_message(message('first')), 250, 'the message that finds it out passes';
	ok $sinks[0]->wait_event(qr/^3 line EHLO.*^3 end/ms), 'a probe finds nothing wrong';
	is $_->send_message(message('next')), 250, 'messages pass' for @c;
	is mails($sinks[0]), 2, 'only one of them had to wait for it';
	is_deeply [states($proxy, $sinks[0])], ['up', 'down'], 'it stays down';
	is $sinks[1]->count, 4, 'all are at the next host';
};

subtest 'one that hung is tried again, though the next one has all connections' => sub {
	my @sinks = map { SmtpSink->start } 1 .. 2;
	my $proxy = start(\@sinks, backend => 'max_connections 1; command_timeout 60s; probe_interval 500ms',
		listener => 'budget ' . 6 * $TestUtil::PATIENCE . 's; final_reserve 0s');
	my $c = $proxy->client('late');

	$sinks[0]->script(mail => 'silent');
	is $c->send_message(message('first')), 250, 'a message passes';
	is counts(@sinks), '0 1', 'at the next host';
	$sinks[0]->script(mail => '250 ok');
	ok((wait_until { $c->send_message(message('again')) != 250 || $sinks[0]->count }), 'later one is for the first');
	is $sinks[0]->count, 1, 'and passes there';
};

subtest 'all hosts hang' => sub {
	my ($proxy, @sinks) = start_hanging('mail', 1);

	$sinks[1]->script(mail => 'silent');
	is $proxy->client('late')->send_message, 451, 'the message is to come again';
	is_deeply [map { mails($_) } @sinks], [1, 1], 'each was asked once';
	$sinks[1]->script(mail => '250 ok');
	is $proxy->client('late')->send_message, 250, 'and one that answers is found at once';
};

subtest 'early: the first host hangs at its second recipient' => sub {
	my ($proxy, @sinks) = start_hanging('mail', 1);
	my $c = $proxy->client('early');

	$sinks[0]->script(mail => '250 ok', rcpt => ['250 ok', 'silent']);
	$c->ehlo;
	is $c->mail('a@example.net'), 250, 'MAIL';
	is $c->rcpt('b@example.org'), 250, 'RCPT';
	is $c->rcpt('c@example.org'), 451, 'this one is to come again';
	is_deeply [states($proxy, $sinks[0])], ['up', 'down'], 'the host is down';
	is $c->data, 354, 'DATA';
	$c->send("Subject: x\r\n\r\n.\r\n");
	is $c->read_reply, 250, 'and the other passes';
	is counts(@sinks), '0 1', 'at the next host';
};

subtest 'late: the first host hangs in the middle of the content' => sub {
	my ($proxy, @sinks) = start_hanging('vrfy', 1, 3, 12);

	$sinks[0]->script(body => { raw => '', deaf => 1, wait => 'never' });
	# More than sockets take by themselves. What they take is found out first, so that it lasts for two shares of three.
	is $proxy->client('late')->send_message(content => $BIG x 4), 250, 'the message passes';
	is counts(@sinks), '0 1 0', 'at the next host';
	is_deeply [states($proxy, $sinks[0])], ['up', 'down'], 'the first one is down';
};

subtest 'a host that was given little time is not down' => sub {
	my $wait = 3.5 * $TestUtil::PATIENCE * 1000;
	my ($proxy, @sinks) = start_hanging('data', 1, 2, 6, "dummy slow { wait ${wait}ms }\ndefault_chain slow\n");

	is $proxy->client('late')->send_message, 250, 'the message passes when a filter was slow';
	is counts(@sinks), '0 1', 'at the next host';
	is_deeply [states($proxy, $sinks[0])], ['up'], 'the first one is not down for that';
};

subtest 'a host at which other mail passes meanwhile is not down' => sub {
	my ($proxy, @sinks) = start_hanging('vrfy', 3);
	my $slow = ready($proxy, 'late', 'slow');

	$sinks[0]->script(mail => ['silent', '250 ok'], greeting => '220 hello');
	$slow->send(".\r\n");
	ok $sinks[0]->wait_event(qr/line MAIL/), 'a message has to wait';
	is $proxy->client('late')->send_message(message('other')), 250, 'another one passes';
	is $slow->read_reply, 250, 'as does the first';
	is_deeply [map { subjects($_) } @sinks], ['other', 'slow'], 'at the next host';
	is_deeply [states($proxy, $sinks[0])], ['up'], 'the first one is not down';
};

# ---- waiting -------------------------------------------------------------------------------

subtest 'who waits for a host that goes away gets another' => sub {
	my @sinks = (SmtpSink->start(final => { reply => '250 ok', wait => 'go' }), SmtpSink->start);
	my $proxy = start(\@sinks, backend => 'max_connections 1; probe_interval 1h', workers => 2);
	my @c = map { ready($proxy, 'late', $_) } 0 .. 5;

	for my $i (0 .. $#c) {
		$c[$i]->send(".\r\n");
		ok $sinks[0]->wait_event(qr/waits go/), 'the first has the connection' if $i == 0;
	}
	$sinks[0]->stop;
	is $c[0]->read_reply, 451, 'the reply to its dot is lost';
	is $_->read_reply, 250, 'the others pass' for @c[1 .. $#c];
	is_deeply [sort(subjects($sinks[1]))], [1 .. 5], 'at the other host, once each';
};

subtest 'a host is wanted that has no idle connection, and there is no room' => sub {
	my @sinks = map { SmtpSink->start(data => ['close', '354 go']) } 1 .. 2;
	my $proxy = start(\@sinks, backend => 'max_connections 1; probe_interval 1h', workers => 2);

	is $proxy->client($_ % 2 ? 'early' : 'late')->send_message, $_ == 1 ? 451 : 250, "message $_" for 1 .. 5;
	is $sinks[0]->count + $sinks[1]->count, 4, 'nobody waits for ever';
};

# ---- what is offered -----------------------------------------------------------------------

sub offered
{
	my ($proxy) = @_;
	my $c = $proxy->client;

	$c->ehlo;
	return join ' ', grep { $c->has($_) } qw(8BITMIME SMTPUTF8 DSN);
}

sub size_offered
{
	my ($proxy) = @_;
	my $c = $proxy->client;

	$c->ehlo;
	return +(map { /^SIZE (\d+)/ } @{ $c->caps })[0];
}

subtest 'offered is what all hosts offer' => sub {
	my @all = ('8BITMIME', 'SMTPUTF8', 'DSN');
	my @sinks = (SmtpSink->start(caps => [@all, 'SIZE 3000000']),
		SmtpSink->start(caps => ['8BITMIME', 'DSN', 'SIZE 2000000']), SmtpSink->start(caps => [@all, 'SIZE']));
	my $proxy = start(\@sinks, backend => 'probe_interval 200ms');

	is offered($proxy), '8BITMIME DSN', 'words';
	is size_offered($proxy), 2000000, 'and the smallest SIZE';
	offers($sinks[1], @all);
	ok wait_until { offered($proxy) eq '8BITMIME SMTPUTF8 DSN' }, 'a host that has learnt a word is noticed without mail';
	is size_offered($proxy), 3000000, 'and its SIZE';
	offers($sinks[2], '8BITMIME', 'SMTPUTF8');
	ok wait_until { offered($proxy) eq '8BITMIME SMTPUTF8' }, 'as is one that has lost one';
	$sinks[2]->stop;
	ok wait_state($proxy, $sinks[2], 'down'), 'it goes down';
	is offered($proxy), '8BITMIME SMTPUTF8', 'what it said last still counts';
	$sinks[2]->restart(ehlo => "250 sink\n" . join "\n", @all);
	ok wait_until { offered($proxy) eq '8BITMIME SMTPUTF8 DSN' }, 'until it comes back and says it again';
};

subtest 'a host that was never seen counts as 8BITMIME only' => sub {
	my @sinks = map { SmtpSink->start } 1 .. 2;
	$sinks[1]->stop;
	my $proxy = start(\@sinks);

	is offered($proxy), '8BITMIME', 'while it is away';
	$sinks[1]->restart;
	ok wait_until { offered($proxy) eq '8BITMIME SMTPUTF8 DSN' }, 'until it is there';
};

# name, MAIL and RCPT parameters, what is left to a host without it, status when no host has it
my @WORDS = (
	['SMTPUTF8', 'SMTPUTF8', '', ['8BITMIME', 'DSN'], '4.6.7'],
	['8BITMIME', 'BODY=8BITMIME', '', ['DSN', 'SMTPUTF8'], '4.6.3'],
	['RET', 'RET=HDRS', '', ['8BITMIME', 'SMTPUTF8'], '4.6.0'],
	['ENVID', 'ENVID=x1', '', ['8BITMIME', 'SMTPUTF8'], '4.6.0'],
	['NOTIFY', '', 'NOTIFY=NEVER', ['8BITMIME', 'SMTPUTF8'], '4.6.0'],
	['ORCPT', '', 'ORCPT=rfc822;x@example.org', ['8BITMIME', 'SMTPUTF8'], '4.6.0'],
);

for my $envelope (qw(early late)) {
	for my $case (@WORDS) {
		my ($name, $mail, $rcpt, $left, $status) = @$case;

		subtest "$envelope: the first host does not take $name any more" => sub {
			my @sinks = map { SmtpSink->start } 1 .. 2;
			my $proxy = start(\@sinks, backend => 'max_idle 0; probe_interval 1h');
			my $send = sub {
				my ($c) = @_;
				my $reply = $c->mail('a@example.net', $mail || ());
				$reply = $c->rcpt('b@example.org', $rcpt || ()) if $reply == 250;
				return $reply if $reply != 250;
				$c->data;
				$c->send("Subject: x\r\n\r\n.\r\n");
				return $c->read_reply;
			};
			my @c = map { my $c = $proxy->client($envelope); $c->ehlo; $c } 1 .. 3;

			offers($sinks[0], @$left);
			is $send->($c[0]), 250, 'the message passes';
			is counts(@sinks), '0 1', 'at the other host';
			my ($txn) = $sinks[1]->messages;
			like "$txn->{mail} @{ $txn->{rcpt} }", qr/ \Q$mail$rcpt\E/, 'with its parameter';
			unlike offered($proxy), qr/$name|DSN.*DSN/, 'and it is not offered any more' if $name !~ /RET|ENVID|NOTIFY|ORCPT/;
			unlike offered($proxy), qr/DSN/, 'and DSN is not offered any more' if $name =~ /RET|ENVID|NOTIFY|ORCPT/;
			offers($sinks[1], @$left);
			my $reply = $send->($c[1]);
			is $reply, 451, 'when no host takes it: come again';
			is $reply->enhanced, $status, 'because of that';
			is $proxy->client($envelope)->send_message, 250, 'and other mail passes';
			is counts(@sinks), '1 1', 'at the first host';
		};
	}

	subtest "$envelope: one host that does not take DSN any more" => sub {
		my $sink = SmtpSink->start;
		my $proxy = start([$sink], backend => 'max_idle 0');
		my $c = $proxy->client($envelope);

		$c->ehlo;
		offers($sink, '8BITMIME');
		is $c->mail('a@example.net'), 250, 'MAIL';
		my $reply = $c->rcpt('b@example.org', 'NOTIFY=NEVER');
		if ($envelope eq 'late') {
			$c->data;
			$c->send("Subject: x\r\n\r\n.\r\n");
			$reply = $c->read_reply;
		}
		is $reply, 451, 'this recipient is to come again';
		is $reply->enhanced, '4.6.0', 'because of its parameter';
		is $c->rset, 250, 'RSET';
		is $c->send_message, 250, 'without it, mail passes';
	};
}

# ---- the end -------------------------------------------------------------------------------

subtest 'a stop in the middle of probes' => sub {
	my @sinks = map { SmtpSink->start } 1 .. 3;
	my $proxy = start(\@sinks, backend => 'balance round-robin; probe_interval 100ms', workers => 2);

	$sinks[0]->stop;
	$sinks[1]->restart(greeting => 'silent');
	ok wait_state($proxy, $sinks[0], 'down'), 'a host is away, as a probe finds';
	ok $sinks[1]->wait_event(qr/(?: open.*){2}/s), 'and one that is silent is probed';
	is $proxy->stop, 0, 'it ends in order';
};

done_testing;
