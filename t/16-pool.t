#!/usr/bin/perl
# Connections to the back-end: kept, used again, counted, waited for, and replaced when dead.
use strict;
use warnings;
use Test::More;
use Time::HiRes 'time';
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

sub start
{
	my ($sink, $backend, %opt) = @_;
	my ($workers, $listener) = ($opt{workers} // 2, $opt{listener} // '');

	my $proxy = TestProxy->start(<<"CONF");
workers $workers
listener early { listen 127.0.0.1:0; backend inner; $listener }
listener late { listen 127.0.0.1:0; backend inner; envelope late; $listener }
backend inner { hosts @{[ $sink->addr ]}; $backend }
CONF
	# It connects at its start; from then on that connection is an idle one.
	$proxy->wait_log(qr/ state=up /) or die 'the back-end was not found';
	return $proxy;
}

sub message { return (content => "Subject: $_[0]\r\n\r\ntest\r\n") }

sub subjects { my ($sink) = @_; return map { $_->{content} =~ /^Subject: (.*?)\r$/m } $sink->messages }

# The most connections that were open at one time.
sub most_open
{
	my ($sink) = @_;
	my ($open, $most) = (0, 0);

	for ($sink->events =~ /^\d+ (open|end)\b/mg) {
		$open += $_ eq 'open' ? 1 : -1;
		$most = $open if $open > $most;
	}
	return $most;
}

# Descriptors of all processes of a proxy.
sub descriptors
{
	my ($proxy) = @_;
	my $count = 0;

	for my $pid ($proxy->pid, $proxy->children) {
		opendir my $dir, "/proc/$pid/fd" or next;
		$count += grep { /^\d/ } readdir $dir;
	}
	return $count;
}

# A session with its message ready: only the final dot is missing.
sub ready
{
	my ($proxy, $listener, $subject) = @_;
	my $c = $proxy->client($listener);

	$c->ehlo;
	$c->mail('a@example.net') == 250 or die 'MAIL';
	$c->rcpt('b@example.org') == 250 or die 'RCPT';
	$c->data == 354 or die 'DATA';
	$c->send("Subject: $subject\r\n\r\ntest\r\n");
	return $c;
}

# ---- kept and given up ---------------------------------------------------------------------

subtest 'one connection serves many messages of many sessions' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, '');

	for my $n (1 .. 6) {
		my $c = $proxy->client($n % 2 ? 'early' : 'late');
		is $c->send_message(message($_)), 250, "message $_" for "$n a", "$n b";
	}
	is $sink->count, 12, 'all have arrived';
	# Two workers keep what they made.
	cmp_ok $sink->connections, '<=', 3, 'over few connections';
	is scalar(grep { /^EHLO/ } $sink->commands), $sink->connections, 'EHLO is said once on each';
	is scalar(grep { /^RSET/ } $sink->commands), 0, 'and RSET is not needed';
};

subtest 'max_messages' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, 'max_messages 2', workers => 1);
	my $c = $proxy->client;

	is $c->send_message(message($_)), 250, "message $_" for 1 .. 5;
	is $sink->connections, 3, 'a new connection after every second message';
	my $quit = wait_until { (grep { $_ eq 'QUIT' } $sink->commands) == 2 };
	ok $quit, 'the others were ended with QUIT';
	my %count;
	$count{ $_->{conn} }++ for $sink->messages;
	is_deeply [map { $count{$_} } sort keys %count], [2, 2, 1], 'two messages each';
};

subtest 'max_idle' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, 'max_idle 1', workers => 1);
	my @c = map { ready($proxy, 'early', $_) } 1 .. 3;

	is $sink->connections, 3, 'three at a time have three connections';
	$_->send(".\r\n") for @c;
	is $_->read_reply, 250, 'delivered' for @c;
	ok $sink->wait_event(qr/(?:line QUIT.*?){2}/s), 'two are ended with QUIT';
	is $proxy->client->send_message(message('next')), 250, 'the third';
	is $sink->connections, 3, 'is used again';
};

subtest 'idle_timeout' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, 'idle_timeout 200ms', workers => 1);

	ok $sink->wait_event(qr/line QUIT/), 'the connection made at the start is ended';
	is $proxy->client->send_message(message('one')), 250, 'a message';
	ok $sink->wait_event(qr/(?:line QUIT.*?){2}/s), 'and so is its connection';
	is $sink->connections, 2, 'which was another one';
	is $proxy->client->send_message(message('two')), 250, 'and a message after it';
};

subtest 'max_idle 0' => sub {
	my $sink = SmtpSink->start(quit => 'silent');
	my $proxy = start($sink, 'max_idle 0', workers => 1);
	my $before;

	is $proxy->client->send_message(message($_)), 250, "message $_" for 1 .. 3;
	is $sink->connections, 4, 'each has its own connection (and one was made at the start)';
	my $quit = wait_until { (grep { $_ eq 'QUIT' } $sink->commands) == 4 };
	ok $quit, 'ended with QUIT';
	my $closed = wait_until { (() = $sink->events =~ / end eof$/mg) == 4 };
	ok $closed, 'and closed, though QUIT is not answered';
};

# ---- dead and odd connections --------------------------------------------------------------

my %DEATHS = (
	'was closed' => { final => { reply => '250 ok', then => 'close' } },
	'was reset' => { final => { reply => '250 ok', then => 'rst' } },
	'answers no more' => { final => { reply => '250 ok', then => 'silent' } },
	'said 421 unasked' => { final => { raw => "250 ok\r\n421 4.4.2 idle\r\n", then => 'close' } },
	'said 421 unasked, not whole' => { final => { raw => "250 ok\r\n421 4." } },
	'says 421 to MAIL' => { mail => ['250 ok', { reply => '421 4.4.2 idle too long', then => 'close' }, '250 ok'] },
	'closes at MAIL' => { mail => ['250 ok', 'close', '250 ok'] },
	'resets at MAIL' => { mail => ['250 ok', 'rst', '250 ok'] },
	'answers MAIL with garbage' => { mail => ['250 ok', { raw => "garbage\r\n" }, '250 ok'] },
);

for my $envelope (qw(early late)) {
	for my $death (sort keys %DEATHS) {
		subtest "$envelope: an idle connection that $death is replaced silently" => sub {
			my $sink = SmtpSink->start(%{ $DEATHS{$death} });
			my $proxy = start($sink, 'command_timeout 1s; max_connections 1', workers => 1);
			my $c = $proxy->client($envelope);

			is $c->send_message(message('first')), 250, 'the message before it';
			$sink->script(final => '250 ok');
			is $c->send_message(message('second')), 250, 'the message';
			is $c->send_message(message('third')), 250, 'the message after it';
			is_deeply [subjects($sink)], [qw(first second third)], 'each is there once';
			is $sink->connections, 2, 'over one more connection';
		};
	}
	subtest "$envelope: it is replaced once" => sub {
		my $sink = SmtpSink->start(mail => ['250 ok', '421 4.4.2 one', '421 4.4.2 two', '250 ok']);
		my $proxy = start($sink, '', workers => 1);
		my $c = $proxy->client($envelope);

		is $c->send_message(message('first')), 250, 'the message before it';
		is $c->send_message(message('second'))->raw, "451 4.4.2 two\r\n", 'the second answer counts';
		is $c->send_message(message('third')), 250, 'the message after it';
		is $sink->count, 2, 'two have arrived';
	};
}

subtest 'a fault at RSET or QUIT is nobody\'s matter' => sub {
	for my $step (qw(rset quit)) {
		for my $fault ('close', 'rst', 'silent', '421 4.3.2 bye', '500 what', { raw => "garbage\r\n" },
			{ reply => '250 ok', twice => 1 }, { raw => '25', then => 'close' }, '354 go') {
			my $sink = SmtpSink->start($step => $fault);
			my $proxy = start($sink, 'command_timeout 1s; max_connections 1; max_messages 2', workers => 1);
			my $c = $proxy->client;
			my $name = "$step: " . join ' ', ref $fault ? %$fault : $fault;

			$c->ehlo;
			is join(' ', map { $_->code } $c->mail('a@example.net'), $c->rset), '250 250', $name =~ s/\r\n//r;
			my $got = join ' ', map { $c->send_message(message($_))->code } 1 .. 5;
			is $got, '250 250 250 250 250', 'all messages pass';
			is_deeply [subjects($sink)], [1 .. 5], 'once';
		}
	}
};

# ---- one count and one queue over all workers ----------------------------------------------

subtest 'one connection serves the sessions of all workers' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, 'max_connections 1', workers => 4);
	my @c = map { $proxy->client($_ % 2 ? 'early' : 'late') } 1 .. 24;

	for my $round (1 .. 3) {
		is join(' ', map { $c[$_]->send_message(message("$round $_"))->code } 0 .. $#c),
		    join(' ', (250) x @c), "round $round, one after the other";
	}
	is $sink->connections, 1, 'there was never another one';
	is $sink->count, 72, 'all have arrived';
};

subtest 'an early envelope gets the idle connection of another worker' => sub {
	my $sink = SmtpSink->start(rcpt => [map { ('550 5.1.1 unknown', '250 ok') } 1 .. 16]);
	my $proxy = start($sink, 'max_connections 1', workers => 4);
	my @c = map { $proxy->client } 1 .. 16;

	for my $c (@c) {
		$c->ehlo;
		$c->mail('a@example.net');
		is $c->rcpt('b@example.org'), 550, 'the refusal comes at once';
		$c->rcpt('c@example.org');
		$c->data;
		$c->send("Subject: x\r\n\r\ntext\r\n.\r\n");
		is $c->read_reply, 250, 'and the message passes';
	}
	is $sink->connections, 1, 'over one connection';
};

subtest 'half a line on an idle connection does not travel with it' => sub {
	my $sink = SmtpSink->start(final => { raw => "250 ok\r\n2" });
	my $proxy = start($sink, 'max_connections 1', workers => 4);
	my @c = map { $proxy->client('late') } 1 .. 24;

	is join(' ', map { $_->send_message->code } @c), join(' ', (451) x @c), 'the reply is in doubt';
	$sink->script(final => { drip => 0.001, raw => "250 ok\r\n2" });
	my @codes = map { $_->send_message->code } @c[0 .. 11];
	is scalar(grep { $_ != 250 } @codes), 0, 'when more comes later only that is odd' or diag "@codes";
	ok $proxy->is_running, 'and nothing breaks';
	unlike $proxy->log, qr/ engine .*died|signal=/, 'the engine neither';
};

subtest 'who waits first is served first' => sub {
	my $sink = SmtpSink->start(final => [{ reply => '250 ok', wait => 'go' }, '250 ok']);
	my $proxy = start($sink, 'max_connections 1', workers => 1);
	my ($first, @others) = map { ready($proxy, 'late', $_) } 1 .. 8;
	my $probe = $proxy->client;

	$first->send(".\r\n");
	ok $sink->wait_event(qr/waits go/), 'the first has the connection';
	for my $c (@others) {
		$c->send(".\r\n");
		$probe->noop for 1, 2; # the worker has seen the dot then
	}
	ok $_->is_silent(0), 'who waits hears nothing' for @others;
	$sink->release('go');
	is $_->read_reply, 250, 'and is served' for $first, @others;
	is_deeply [subjects($sink)], [1 .. 8], 'in order';
	is $sink->connections, 1, 'over one connection';
};

subtest 'past the budget: 451' => sub {
	my $sink = SmtpSink->start(final => [{ reply => '250 ok', wait => 'go' }, '250 ok']);
	my $proxy = start($sink, 'max_connections 1', listener => 'budget 2s; final_reserve 1s');
	my $first = ready($proxy, 'late', 'first');

	$first->send(".\r\n");
	ok $sink->wait_event(qr/waits go/), 'the first has the connection';
	my @others = map { ready($proxy, $_, "waits $_") } qw(early late), ('late') x 4;
	my $begin = time;
	$_->send(".\r\n") for @others;
	for my $c (@others) {
		my $reply = $c->read_reply;
		is $reply, 451, 'the others are told to come again';
		is $reply->enhanced, '4.3.2', 'because we are busy';
	}
	cmp_ok time - $begin, '<', 2 * $TestUtil::PATIENCE + 1, 'within the budget';
	$sink->release('go');
	is $first->read_reply, 250, 'the first is not hurried: its dot has left';
	is $_->send_message(message('again')), 250, 'and then there is room' for @others;
	is_deeply [sort(subjects($sink))], [('again') x @others, 'first'], 'nobody was delivered who heard 451';
};

subtest 'who waits and goes away leaves no hole' => sub {
	my $sink = SmtpSink->start(final => [{ reply => '250 ok', wait => 'go' }, '250 ok']);
	my $proxy = start($sink, 'max_connections 1', workers => 4);
	my $first = ready($proxy, 'late', 'first');
	my @others = map { ready($proxy, 'late', $_) } 1 .. 20;

	$first->send(".\r\n");
	ok $sink->wait_event(qr/waits go/), 'the first has the connection';
	$_->send(".\r\n") for @others;
	$others[$_]->reset for grep { $_ % 2 } 0 .. $#others;
	ok $proxy->wait_log(qr/(?: disconnect .*?){10}/s), 'ten have gone';
	$sink->release('go');
	is $_->read_reply, 250, 'a message passes' for $first, @others[grep { $_ % 2 == 0 } 0 .. $#others];
	is_deeply [sort(subjects($sink))], [sort('first', grep { $_ % 2 } 1 .. 20)], 'only of those who stayed';
	is $sink->connections, 1, 'over one connection';
};

subtest '200 sessions over 5 connections' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, 'max_connections 5', workers => 4);

	for my $listener (qw(late early)) {
		my @c = map { SmtpClient->new($proxy->addr($listener), timeout => 30) } 1 .. 200;
		my $before = $sink->count;

		$_->expect(220) for @c;
		$_->ehlo for @c;
		$_->send("MAIL FROM:<a\@example.net>\r\nRCPT TO:<b\@example.org>\r\nDATA\r\n") for @c;
		my @codes = map { my $c = $_; map { $c->read_reply->code } 1 .. 3 } @c;
		is scalar(grep { !/^(?:250|354)$/ } @codes), 0, "$listener: all are taken";
		$c[$_]->send("Subject: $listener $_\r\n\r\ntest\r\n.\r\n") for 0 .. $#c;
		is scalar(grep { $_->read_reply != 250 } @c), 0, 'all messages pass';
		is $sink->count - $before, 200, 'and are there';
	}
	my %seen;
	$seen{$_}++ for subjects($sink);
	is scalar(keys %seen), 400, 'every one';
	is scalar(grep { $_ != 1 } values %seen), 0, 'once';
	is most_open($sink), 5, 'over five connections';
};

# ---- nothing is lost on the way ------------------------------------------------------------

subtest 'hundreds of faults cost no connection and no descriptor' => sub {
	my @faults = ('close', 'rst', '421 4.3.2 no', '999 what', { raw => "250 o\0k\r\n" }, '550 5.7.1 no',
		{ raw => "250-\r\n", then => 'close' }, { reply => '250 ok', twice => 1 });
	my @script = map { $_, '250 ok' } @faults;
	my $sink = SmtpSink->start;
	my $proxy = start($sink, 'max_connections 1; command_timeout 1s', workers => 2);

	is $proxy->client($_)->send_message, 250, "$_: a message" for qw(early late);
	my $before = descriptors($proxy);
	for my $step (qw(mail rcpt data final rset greeting ehlo)) {
		my $right = { data => '354 go', greeting => '220 hello' }->{$step} // '250 ok';
		for my $fault (@faults) {
			$sink->script($step => [map { $fault, $right } 1 .. 10]);
			for my $n (1 .. 5) {
				my $c = $proxy->client($n % 2 ? 'early' : 'late');
				$c->send_message;
				$n % 3 ? $c->reset : $c->quit;
			}
		}
		$sink->script($step => $right);
		is $proxy->client('late')->send_message, 250, "$step: after all faults a message passes";
	}
	my $settled = wait_until { descriptors($proxy) <= $before };
	ok $settled, "as many descriptors as before ($before)" or diag descriptors($proxy);
	is $proxy->client('late')->send_message, 250, 'the one connection is still there';
	cmp_ok most_open($sink), '<=', 2, 'and was the only one (but for one that is on its way out)';
};

subtest 'a back-end that is down costs nothing either' => sub {
	my $sink = SmtpSink->start;
	my $proxy = start($sink, 'max_connections 2; connect_timeout 1s', workers => 2);

	is $proxy->client->send_message, 250, 'a message';
	my $before = descriptors($proxy);
	$sink->stop;
	my @codes = map { $proxy->client($_ % 2 ? 'early' : 'late')->send_message->code } 1 .. 50;
	is scalar(grep { $_ != 451 } @codes), 0, 'while it is down all get 451';
	$sink->restart;
	is $proxy->client('late')->send_message, 250, 'and then mail passes at once';
	my $settled = wait_until { descriptors($proxy) <= $before };
	ok $settled, 'with as many descriptors as before';
};

done_testing;
