#!/usr/bin/perl
# max_instances: so many looks of a filter at a time over all workers, and one fair queue of those that wait.
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
listener front { listen 127.0.0.1:0; backend inner; max_per_client 0 }
backend inner { discard yes }
CONF

sub conf { my ($filters) = @_; return "$frame$filters\n" }
sub proxy { my ($filters) = @_; return TestProxy->start(conf($filters)) }

sub gauge
{
	my ($proxy, $what, $filter) = @_;

	return Metrics->parse(HttpClient::get($proxy->health_addr, '/metrics')->{body})
		->value("postern_filter_$what", filter => $filter // 'slow');
}

sub is_gauge
{
	my ($proxy, $what, $wanted, $name) = @_;

	wait_until { gauge($proxy, $what) == $wanted } 10;
	return is(gauge($proxy, $what), $wanted, $name);
}

# Ready for the end of data, which is not sent yet.
sub prepared
{
	my ($proxy, $from) = @_;
	my $c = $proxy->client('front');

	$c->ehlo;
	$c->mail($from // 's@example.net');
	$c->rcpt('r@example.org');
	$c->data;
	$c->send("Subject: x\r\n\r\nx\r\n");
	return $c;
}

sub finish { my ($c) = @_; $c->send(".\r\n"); return $c }
sub sent { return finish(prepared(@_)) }

# Clients one behind the other in the queue, whatever worker each is on.
sub queued
{
	my ($proxy, $first, $last) = @_;
	my @all;

	for my $n ($first .. $last) {
		push @all, sent($proxy, "$n\@example.net");
		wait_until { gauge($proxy, 'waiting') + gauge($proxy, 'running') + $proxy->summaries >= $n } 30
			or die "message $n is not seen to wait";
	}
	return @all;
}

# The senders, in the order in which their messages were over.
sub order { my ($proxy) = @_; return join ' ', map { $_->{from} =~ /(\d+)/ } $proxy->summaries }

subtest '200 at once' => sub {
	my $proxy = proxy("dummy slow { wait 40ms; max_instances 4 }\ndefault_chain slow");
	my @clients = map { prepared($proxy) } 1 .. 200;
	my $begin = time;
	my $most = 0;
	my $waited = 0;

	finish($_) for @clients;
	wait_until {
		my $running = gauge($proxy, 'running');
		my $waiting = gauge($proxy, 'waiting');

		$most = $running if $running > $most;
		$waited = $waiting if $waiting > $waited;
		$running + $waiting == 0 && $proxy->summaries == 200;
	} 30;
	my $took = time - $begin;
	is(scalar(grep { $_->read_reply == 250 } @clients), 200, 'all pass');
	cmp_ok($most, '<=', 4, 'never more than four are looked at at a time');
	cmp_ok($most, '>=', 3, 'though nearly always so many');
	cmp_ok($waited, '>=', 50, 'the others wait');
	cmp_ok($took, '>=', 2, 'four at a time take fifty times 40 ms');
	my %workers = map { $_ => 1 } $proxy->log =~ / (w\d) s=\S+ t=\d+ msg /g;
	cmp_ok(scalar keys %workers, '>', 1, 'and they were on several workers');
	is(gauge($proxy, 'wait_timeouts_total'), 0, 'nobody has waited too long');
};

subtest 'the queue' => sub {
	my $proxy = proxy("dummy slow { wait 300ms; max_instances 1 }\ndefault_chain slow");
	my @clients = queued($proxy, 1, 12);

	$_->read_reply for @clients;
	wait_until { $proxy->summaries == 12 } 30;
	is(order($proxy), join(' ', 1 .. 12), 'is served in the order of arrival, over all workers');
	my ($last) = ($proxy->summaries)[-1]{filters} =~ m{slow:pass/(\d+)ms};
	cmp_ok($last, '>=', 600, 'what a message has waited is a part of its time');
};

subtest 'who goes away' => sub {
	my $proxy = proxy("dummy slow { wait 30s; max_instances 1 }\ndefault_chain slow");
	my @clients = queued($proxy, 1, 4);

	$clients[2]->reset;
	is_gauge($proxy, 'waiting', 2, 'leaves the queue');
	$clients[0]->reset;
	is_gauge($proxy, 'waiting', 1, 'or leaves his place to the next');
	is_gauge($proxy, 'running', 1, 'of whom there is one');
	$clients[1]->reset;
	$clients[3]->reset;
	is_gauge($proxy, 'running', 0, 'until all are gone');
	$proxy->reload(conf("dummy slow { wait 1ms; max_instances 1; max_wait 10s }\ndefault_chain slow"));
	is(sent($proxy)->read_reply, 250, 'and the place is free');
	is($proxy->stop, 0, 'it ends in order');
};

subtest 'who waits too long' => sub {
	my %replies = (tempfail => 451, reject => 554, pass => 250, disconnect => 421);

	for my $how (sort keys %replies) {
		my $proxy = proxy("dummy slow { wait 30s; max_instances 1; max_wait 100ms; on_failure $how }\ndefault_chain slow");
		my ($first) = queued($proxy, 1, 1);

		is(sent($proxy)->read_reply, $replies{$how}, "on_failure $how answers");
		ok($proxy->wait_log(qr/warn w\d .* filter filter=slow err="none of its 1 instances was free within \d+ ms" on_failure=$how/),
			'the log says why');
		is(gauge($proxy, 'wait_timeouts_total'), 1, 'it is counted');
		is(gauge($proxy, 'waiting'), 0, 'nobody waits any more');
		ok($first->is_silent(0.05), 'who has the place goes on');
	}
};

subtest 'a reload' => sub {
	my $slow = 'wait 30s; timeout 5m';
	my $proxy = proxy("dummy slow { $slow; max_instances 1 }\ndefault_chain slow");
	my @clients = queued($proxy, 1, 6);

	is_gauge($proxy, 'waiting', 5, 'five wait');
	is($proxy->reload(conf("dummy slow { $slow; max_instances 3 }\ndefault_chain slow")), 'done', 'the limit is raised');
	is_gauge($proxy, 'running', 3, 'which holds at once for those that wait');
	is_gauge($proxy, 'waiting', 3, 'though not for all');
	is($proxy->reload(conf("dummy slow { wait 1ms; max_instances 1 }\ndefault_chain slow")), 'done', 'it is lowered');
	push @clients, sent($proxy, "7\@example.net");
	is_gauge($proxy, 'waiting', 4, 'and a new message waits behind the others');
	is($proxy->reload(conf("dummy slow { wait 1ms }\ndefault_chain slow")), 'done', 'it is taken away');
	is($clients[6]->read_reply, 250, 'nobody waits any more');
	is_gauge($proxy, 'running', 6, 'those from before are looked at as they were promised');
	$_->reset for @clients[0 .. 5];
	is_gauge($proxy, 'running', 0, 'and are gone with their clients');
	is($proxy->stop, 0, 'it ends in order');
};

subtest 'the end' => sub {
	my $proxy = proxy("dummy slow { wait 200ms; max_instances 2 }\ndefault_chain slow");
	my @clients = queued($proxy, 1, 8);

	$proxy->signal('TERM');
	is(scalar(grep { $_->read_reply == 250 } @clients), 8, 'a stop waits for those that wait');
	is($proxy->stop, 0, 'and ends in order');
	$proxy = proxy("drain_timeout 300ms\ndummy slow { wait 30s; max_instances 2 }\ndefault_chain slow");
	@clients = queued($proxy, 1, 8);
	is($proxy->stop, 0, 'after drain_timeout they are cut, and those that wait with them');
	ok($proxy->log =~ / stopped /, 'in order');
};

done_testing;
