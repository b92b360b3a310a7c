#!/usr/bin/perl
# failures and retry_after: a filter that fails time after time is not asked for a while, then once.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use HttpClient;
use Metrics;
use SmtpClient;
use TestProxy;
use TestUtil;
use Time::HiRes 'time';

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $frame = <<'CONF';
workers 4
health { listen 127.0.0.1:0 }
listener front { listen 127.0.0.1:0; backend inner }
backend inner { discard yes }
default_chain slow
CONF

# What it takes too long for, and what it does not.
my $fails = 'wait 30s; timeout 200ms';
my $works = 'wait 1ms; timeout 5s';

sub conf { my ($does, @more) = @_; return $frame . "dummy slow { " . join('; ', $does, @more) . " }\n" }
sub proxy { return TestProxy->start(conf(@_)) }

sub value
{
	my ($proxy, $what, @label) = @_;

	return Metrics->parse(HttpClient::get($proxy->health_addr, '/metrics')->{body})
		->value("postern_filter_$what", filter => 'slow', @label);
}

sub ready { my ($proxy) = @_; return HttpClient::get($proxy->health_addr, '/readyz') }

sub sent
{
	my ($proxy) = @_;
	my $c = $proxy->client('front');

	$c->ehlo;
	$c->mail('s@example.net');
	$c->rcpt('r@example.org');
	$c->data;
	$c->send("Subject: x\r\n\r\nx\r\n.\r\n");
	return $c;
}

sub becomes
{
	my ($what, $name) = @_;

	return ok((wait_until { $what->() } 20), $name);
}

sub reply_to_one { return sent(@_)->read_reply }
sub count_log { my ($proxy, $pattern) = @_; return scalar(() = $proxy->log =~ /$pattern/g) }

subtest 'a filter that fails' => sub {
	my @conf = ('failures 3', 'retry_after 5s');
	my $proxy = proxy($fails, @conf);

	is(ready($proxy)->{status}, 200, 'at first mail can be taken');
	is(value($proxy, 'breaker_open'), 0, 'the breaker is closed');
	is(reply_to_one($proxy), 451, 'on_failure answers after its timeout') for 1 .. 3;
	ok($proxy->wait_log(qr/^warn w\d s=\S+ t=\d+ breaker filter=slow state=open failures=3 retry_ms=5000 err="no answer within 200 ms"$/m),
		'after three in a row the log says that it is not asked any more');
	my $open = time;
	is(reply_to_one($proxy), 451, 'on_failure answers');
	my ($ms) = $proxy->wait_summary(4)->{filters} =~ m{^slow:tempfail/(\d+)ms$};
	cmp_ok($ms, '<', 150, 'at once');
	is(value($proxy, 'stopped_total'), 1, 'this is counted');
	is(value($proxy, 'failures_total'), 4, 'among the failures');
	is(value($proxy, 'timeouts_total'), 3, 'and no timeout');
	is(value($proxy, 'breaker_open'), 1, 'the metrics say so');
	my $not = ready($proxy);
	is($not->{status}, 503, 'no mail can be taken, says /readyz');
	is($not->{body}, "filter slow: failed 3 times in a row; on_failure tempfail answers\n", 'and why');

	# after retry_after
	becomes(sub { ready($proxy)->{status} == 200 }, 'until a probe is due: without mail there would be none');
	cmp_ok(time - $open, '>=', 1, 'after retry_after');
	is(value($proxy, 'breaker_open'), 1, 'the breaker is not closed by that');
	is(reply_to_one($proxy), 451, 'the probe fails');
	is(value($proxy, 'timeouts_total'), 4, 'it was asked');
	is(reply_to_one($proxy), 451, 'nobody else');
	is(value($proxy, 'timeouts_total'), 4, 'is asked');
	is(count_log($proxy, qr/ breaker filter=slow state=open/), 1, 'the log does not repeat it');

	# a reload does not forget
	is($proxy->reload(conf($works, @conf)), 'done', 'the service is repaired, and the configuration loaded anew');
	is(value($proxy, 'breaker_open'), 1, 'which changes nothing by itself');
	becomes(sub { ready($proxy)->{status} == 200 }, 'until a probe is due');
	is(reply_to_one($proxy), 250, 'which passes');
	ok($proxy->wait_log(qr/^info w\d s=\S+ t=\d+ breaker filter=slow state=closed$/m), 'the log says that it is asked again');
	is(value($proxy, 'breaker_open'), 0, 'the metrics, too');
	is(reply_to_one($proxy), 250, 'and so it is');
};

subtest 'one probe at a time' => sub {
	my $proxy = proxy($fails, 'failures 2', 'retry_after 300ms');

	is(reply_to_one($proxy), 451, 'it fails') for 1 .. 2;
	is(value($proxy, 'breaker_open'), 1, 'the breaker opens');
	$proxy->reload(conf('wait 4s; timeout 30s', 'failures 2', 'retry_after 300ms'));
	becomes(sub { ready($proxy)->{status} == 200 }, 'a probe is due');
	my @clients = map { sent($proxy) } 1 .. 10;
	my @replies = sort map { $_->read_reply->code } @clients;
	is("@replies", '250 ' . join(' ', (451) x 9), 'of ten at once one is the probe, and on_failure answers the others');
	is(value($proxy, 'breaker_open'), 0, 'it has closed the breaker');
};

subtest 'a probe whose client goes away' => sub {
	my $proxy = proxy($fails, 'failures 1', 'retry_after 200ms');

	is(reply_to_one($proxy), 451, 'the breaker opens');
	$proxy->reload(conf('wait 30s', 'failures 1', 'retry_after 200ms'));
	becomes(sub { ready($proxy)->{status} == 200 }, 'a probe is due');
	my $c = sent($proxy);
	becomes(sub { value($proxy, 'running') == 1 }, 'it runs');
	is(ready($proxy)->{status}, 503, 'nobody else would be asked');
	is(reply_to_one($proxy), 451, 'nor is he');
	$proxy->reload(conf($works, 'failures 1', 'retry_after 200ms'));
	$c->reset;
	becomes(sub { value($proxy, 'cancelled_total') == 1 }, 'it is given up');
	is(reply_to_one($proxy), 250, 'the next one is the probe, at once');
	is(value($proxy, 'breaker_open'), 0, 'and closes the breaker');
};

subtest 'those that wait for one of max_instances' => sub {
	my $proxy = proxy('wait 30s; timeout 2s', 'max_instances 1', 'failures 1', 'retry_after 1m');
	my $begin = time;
	my @clients = map { sent($proxy) } 1 .. 6;

	is(scalar(grep { $_->read_reply == 451 } @clients), 6, 'are answered by on_failure');
	cmp_ok(time - $begin, '<', 9, 'as soon as the breaker opens, and not one after the other');
	is(value($proxy, 'timeouts_total') + value($proxy, 'wait_timeouts_total') + value($proxy, 'stopped_total'), 6,
		'each for its reason');
	is(value($proxy, 'waiting'), 0, 'nobody waits any more');
};

subtest 'on_failure' => sub {
	my %replies = (tempfail => 451, reject => 554, pass => 250, disconnect => 421);

	for my $how (sort keys %replies) {
		my $proxy = proxy($fails, 'failures 1', 'retry_after 1m', "on_failure $how");

		is(reply_to_one($proxy), $replies{$how}, "$how answers a failure") for 1;
		is(value($proxy, 'breaker_open'), 1, 'the breaker opens');
		is(reply_to_one($proxy), $replies{$how}, 'and answers for it');
		is(value($proxy, 'stopped_total'), 1, 'without that the filter is asked');
		is(ready($proxy)->{status}, $how eq 'pass' ? 200 : 503, 'mail can ' . ($how eq 'pass' ? '' : 'not ') . 'be taken');
	}
	my $proxy = proxy($fails, 'failures 1', 'retry_after 1m', 'shadow yes');
	is(reply_to_one($proxy), 250, 'a shadow changes nothing') for 1 .. 2;
	is(value($proxy, 'breaker_open'), 1, 'though it has a breaker');
	is(ready($proxy)->{status}, 200, 'and mail can be taken');
};

subtest 'failures 0' => sub {
	my $proxy = proxy($fails, 'failures 1', 'retry_after 1m');

	is(reply_to_one($proxy), 451, 'a breaker is open');
	is(value($proxy, 'breaker_open'), 1, 'until');
	is($proxy->reload(conf($fails, 'failures 0')), 'done', 'a configuration wants none');
	is(value($proxy, 'breaker_open'), 0, 'that closes it');
	ok($proxy->wait_log(qr/^info a breaker filter=slow state=closed$/m), 'which the log says');
	is(reply_to_one($proxy), 451, 'it fails') for 1 .. 3;
	is(value($proxy, 'breaker_open'), 0, 'and is asked every time');
	is(value($proxy, 'timeouts_total'), 4, '(four times in all)');
};

done_testing;
