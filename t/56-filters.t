#!/usr/bin/perl
# Rules, chains and filters, with the one kind that does nothing, slowly.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;
use Time::HiRes 'time';

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $sink = SmtpSink->start;

sub proxy
{
	my ($conf, @listener) = @_;

	return TestProxy->start(join "\n", 'workers 1',
		'listener front { listen 127.0.0.1:0; backend inner' . join('', map { "; $_" } @listener) . ' }',
		"backend inner { hosts @{[ $sink->addr ]} }", $conf, '');
}

sub name_of { return (read_file("/proc/$_[0]/comm") // '') =~ s/\n//r }
sub kids { my ($pid) = @_; return split ' ', `pgrep -P $pid` }

sub helpers
{
	my ($proxy) = @_;

	return grep { name_of($_) =~ /helper/ } map { kids($_) } grep { name_of($_) =~ /spawn/ } $proxy->children;
}

# Sends a message up to the end of data, without waiting for the answer.
sub sent
{
	my ($proxy, %opt) = @_;
	my $c = $proxy->client;

	$c->ehlo;
	$c->mail($opt{from} // 's@example.net');
	$c->rcpt($_) for @{ $opt{to} // [ 'r@example.org' ] };
	$c->data;
	$c->send("Subject: sent\r\n\r\nsent\r\n.\r\n");
	return $c;
}

# ---- one filter ------------------------------------------------------------------------------

subtest 'a filter that waits' => sub {
	my $proxy = proxy("dummy slow { wait 1s }\ndefault_chain slow");
	my $before = $sink->count;
	my $begin = time;
	my $c = sent($proxy);

	ok($c->is_silent(0.1), 'no answer before it has ended');
	is($sink->count, $before, 'and no delivery');
	is(my $other = $proxy->client->ehlo, 250, 'others are served meanwhile, by the same worker');
	is($c->read_reply, 250, 'then the message passes');
	cmp_ok(time - $begin, '>=', 1, 'after its time');
	is($sink->count, $before + 1, 'once');
	my $line = $proxy->wait_summary;
	like($line->{filters}, qr{^slow:pass/\d+ms$}, 'the summary line names it, its verdict and its time');
	cmp_ok($line->{filter_ms}, '>=', 990, 'and the time of the chain');
};

my %failures = (tempfail => qr/^451 4\.3\.0 /, reject => qr/^554 5\.3\.0 /, pass => qr/^250 /, disconnect => qr/^421 4\.3\.0 /);
for my $how (sort keys %failures) {
	subtest "a filter over its time: on_failure $how" => sub {
		my $proxy = proxy("dummy slow { wait 30s; timeout 100ms; on_failure $how }\ndefault_chain slow");
		my $before = $sink->count;
		my $begin = time;
		my $c = sent($proxy);
		my $reply = $c->read_reply;

		like($reply->raw, $failures{$how}, 'the reply is as configured');
		cmp_ok(time - $begin, '<', 5, 'and does not wait for the filter');
		is($sink->count - $before, $how eq 'pass' ? 1 : 0, 'delivered only when told to pass');
		my $line = $proxy->wait_summary;
		is($line->{verdict}, $how, 'the summary line has the verdict');
		like($line->{filters}, qr/^slow:.*$how/, 'and the filter that gave it');
		ok($how eq 'disconnect' ? $c->wait_eof : $c->noop == 250,
			$how eq 'disconnect' ? 'the session ends' : 'the session goes on');
		ok($proxy->wait_log(qr/^warn .* filter filter=slow err="no answer within 100 ms" on_failure=$how$/m), "the log has the fault");
	};
}

subtest 'tempfail is what happens unless told otherwise' => sub {
	my $proxy = proxy("dummy slow { wait 30s; timeout 50ms }\ndefault_chain slow");

	is(sent($proxy)->read_reply, 451, 'a filter that fails is never an accept');
};

subtest 'the budget ends a chain' => sub {
	my $proxy = proxy("dummy slow { wait 1m; timeout 5m; on_failure pass }\ndefault_chain slow",
		'budget 1500ms', 'final_reserve 500ms');
	my $before = $sink->count;
	my $begin = time;
	my $c = sent($proxy);
	my $reply = $c->read_reply;
	my $took = time - $begin;

	is($reply, 451, 'an unfinished chain is a tempfail, whatever on_failure says');
	cmp_ok($took, '>=', 0.9, 'not before the budget less its reserve');
	cmp_ok($took, '<', 5, 'but soon after');
	is($sink->count, $before, 'nothing is delivered');
	is($c->noop, 250, 'the session goes on');
};

# ---- chains and rules ------------------------------------------------------------------------

subtest 'a chain' => sub {
	my $proxy = proxy("dummy a { wait 2s }\ndummy b { wait 2s }\ndummy c { }\ndefault_chain a b c");
	my $begin = time;

	is(sent($proxy)->read_reply, 250, 'all of it passes');
	cmp_ok(time - $begin, '<', 3.9, 'those that only look run side by side');
	like($proxy->wait_summary->{filters}, qr/^a:pass\S*[, ]b:pass\S*[, ]c:pass/, 'the log has them in their order');
	$proxy = proxy("dummy a { wait 10s; timeout 100ms; on_failure reject }\n"
		. "dummy b { wait 10s; timeout 50ms; on_failure tempfail }\ndefault_chain a b");
	is(sent($proxy)->read_reply, 554, 'the verdict that counts is the first of the chain, not the first in time');
};

subtest 'rules' => sub {
	my $proxy = proxy(<<'CONF');
dummy one { }
dummy two { }
dummy three { }
rule { sender <>; chain none }
rule { sender @partner.example; recipient boss@example.org; chain one two }
rule { sender .partner.example; chain two }
rule { recipient /^list-.*@/ ; chain three }
rule { listener other; chain one }
default_chain three one
listener other { listen 127.0.0.1:0; backend inner }
CONF
	my $n = 0;
	my $filters = sub {
		my ($name, $from, $to, $listener) = @_;
		my $c = $proxy->client($listener);
		is($c->send_message(from => $from, to => $to), 250, "$name: passes");
		return join ' ', ($proxy->wait_summary(++$n)->{filters} // '') =~ /([a-z]+):pass/g;
	};

	is($filters->('the null sender', '', 'r@example.org'), '', 'the first rule that matches wins');
	is($filters->('sender and recipient', 'a@partner.example', 'boss@example.org'), 'one two', 'all conditions must hold');
	is($filters->('case', 'A@PARTNER.example', 'Boss@Example.Org'), 'one two', 'without regard to case');
	is($filters->('one does not hold', 'a@partner.example', 'r@example.org'), 'three one', '@domain is not what lies under it');
	is($filters->('below a domain', 'a@x.partner.example', 'r@example.org'), 'two', '.domain is what lies under it');
	is($filters->('a pattern', 'a@b.example', 'List-7@example.org'), 'three', 'patterns match without regard to case');
	is($filters->('another listener', 'a@b.example', 'r@example.org', 'other'), 'one', 'rules know listeners');
	is($filters->('none matches', 'a@b.example', 'r@example.org'), 'three one', 'then the default chain holds');
};

subtest 'recipients with different chains' => sub {
	my $proxy = proxy(<<'CONF');
dummy one { }
dummy two { }
rule { recipient a@example.org aa@example.org; chain one }
rule { recipient b@example.org; chain two }
rule { recipient c@example.org; chain one }
default_chain two
CONF
	my $c = $proxy->client;
	my $before = $sink->count;

	$c->ehlo;
	is($c->mail('s@example.net'), 250, 'a message');
	is($c->rcpt('a@example.org'), 250, 'its first recipient chooses the chain');
	is($c->rcpt('aa@example.org'), 250, 'another one of the same rule comes along');
	is($c->rcpt('c@example.org'), 250, 'and one of another rule with the same chain');
	my $reply = $c->rcpt('b@example.org');
	is($reply, 452, 'one with another chain must come again');
	is($reply->text, '4.5.3 send this recipient in a transaction of its own', 'and the reply says how');
	is($c->data, 354, 'the message goes on');
	$c->send("x\r\n.\r\n");
	is($c->read_reply, 250, 'to those that were taken');
	is($sink->count, $before + 1, 'in one transaction');
	is(scalar @{ ($sink->messages)[-1]{rcpt_ok} }, 3, 'of three');
	is($c->send_message(to => 'b@example.org'), 250, 'the other one passes by itself');
	is($c->send_message(to => [ 'b@example.org', 'z@example.org' ]), 250, 'a rule and the default chain may be alike');
};

# ---- helpers ---------------------------------------------------------------------------------

subtest 'a helper' => sub {
	my $proxy = proxy("dummy slow { wait 50ms; helper yes }\ndefault_chain slow");
	my $c = sent($proxy);

	is($c->read_reply, 250, 'does the work');
	like($proxy->wait_summary->{filters}, qr/^slow:pass/, 'and its verdict counts');
	my @first = helpers($proxy);
	is(scalar @first, 1, 'it stays');
	is(sent($proxy)->read_reply, 250, 'and works again');
	is(join(' ', helpers($proxy)), "@first", 'the same one');
	my $status = read_file("/proc/$first[0]/status");
	like($status, qr/^NoNewPrivs:\s+1$/m, 'it cannot gain rights');
	like($status, qr/^Seccomp:\s+2$/m, 'and is confined') or diag $status;
	unlike($status, qr/^Uid:.*\b0\b/m, "nor has it root's") if is_root();
	my @many = map { sent($proxy) } 1 .. 8;
	is(join(' ', map { $_->read_reply } @many), join(' ', (250) x 8), 'many messages at once');
	$proxy->stop;
	ok(wait_until { not -d "/proc/$first[0]" }, 'it ends with the engine');
};

subtest 'a helper that dies at work' => sub {
	my $proxy = proxy("dummy slow { wait 20s; helper yes }\ndefault_chain slow");
	my $before = $sink->count;
	my $c = sent($proxy);
	my ($helper) = wait_until { (helpers($proxy))[0] };

	ok($helper, 'it is at work') or return;
	ok($c->is_silent(0.1), 'no answer yet');
	kill 'KILL', $helper;
	is($c->read_reply, 451, 'its message must come again');
	is($sink->count, $before, 'and is not delivered');
	is($proxy->wait_summary->{verdict}, 'tempfail', 'the log has the verdict');
	ok($proxy->wait_log(qr/^(?:error|warn) .*helper/m), 'and the fault');
	$c = sent($proxy);
	my ($next) = wait_until { (grep { $_ != $helper } helpers($proxy))[0] };
	ok($next, 'the next message gets a new one');
	$c->reset;
	ok(wait_until { not -d "/proc/$next" }, 'a client that goes away ends its work');
};

subtest 'a helper over its time' => sub {
	my $proxy = proxy("dummy slow { wait 20s; helper yes; timeout 200ms }\ndefault_chain slow");
	my $c = sent($proxy);
	my ($helper) = wait_until { (helpers($proxy))[0] };

	is($c->read_reply, 451, 'costs its message a tempfail');
	ok(wait_until { not -d "/proc/$helper" }, 'and is stopped') if $helper;
};

subtest 'a helper that cannot be started' => sub {
	my $proxy = proxy("dummy slow { wait 10ms; helper yes }\ndefault_chain slow");
	my ($spawner) = grep { name_of($_) =~ /spawn/ } $proxy->children;

	kill 'STOP', $spawner;
	my $c = sent($proxy);
	ok($c->is_silent(0.2), 'a spawner that hangs holds up the message');
	is($proxy->client->ehlo, 250, 'but nobody else');
	kill 'CONT', $spawner;
	is($c->read_reply, 250, 'and when it goes on, so does the message');
};

# ---- the client goes away --------------------------------------------------------------------

for my $how ('reset', 'close') {
	subtest "the client goes away while a filter waits, by $how" => sub {
		my $proxy = proxy("dummy slow { wait 20s }\ndefault_chain slow");
		my $before = $sink->count;
		my $c = sent($proxy);

		ok($c->is_silent(0.1), 'the filter waits');
		$c->$how;
		my $line = $proxy->wait_summary(1, 5);
		ok($line, 'the transaction ends at once') or return;
		is($line->{verdict}, 'abandoned', 'as abandoned');
		is($line->{note}, 'front gone', 'because the front is gone');
		is($sink->count, $before, 'nothing is delivered');
		is($proxy->stop, 0, 'and the stop has nothing to wait for');
	};
}

done_testing;
