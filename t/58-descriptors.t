#!/usr/bin/perl
# When descriptors run out: some wait or are put off, nothing is lost, and afterwards all is as before.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use POSIX ();
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;
use Time::HiRes qw(time sleep);

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

# So few descriptors that max_connections, set too high, does not save us.
my $LIMIT = 90;
my $sink = SmtpSink->start;
my $large = "\r\n" . "0123456789\r\n" x 20_000;

sub start
{
	my ($envelope) = @_;

	return TestProxy->start(<<"CONF", limit => "-n $LIMIT");
max_connections 5000
workers 2
listener front { listen 127.0.0.1:0; backend inner; envelope $envelope; received no }
backend inner { hosts @{[ $sink->addr ]}; max_connections 10; idle_timeout 200ms }
CONF
}

sub engine { my ($proxy) = @_; return (grep { (read_file("/proc/$_/comm") // '') =~ /engine/ } $proxy->children)[0] }
sub open_fds { my ($pid) = @_; return scalar(() = glob "/proc/$pid/fd/*") }

# Connects until no more are greeted: who finds no descriptor left is closed, at once or after a rest.
sub fill
{
	my ($proxy) = @_;
	my @clients;

	while (@clients < 2 * $LIMIT) {
		my $c = SmtpClient->new($proxy->addr, timeout => 10);
		$c->read_reply == 220 or last;
		push @clients, $c;
	}
	return @clients;
}

for my $envelope ('early', 'late') {
	subtest "$envelope: all descriptors are in use" => sub {
		my $proxy = start($envelope);

		ok($proxy->wait_log(qr{ ready }), 'it has started');
		my $pid = engine($proxy);
		my $before = open_fds($pid);
		my $arrived = $sink->count;

		ok($proxy->wait_log(qr/^warn a limits err=.* needs=\d+ has=$LIMIT$/m), 'the start has warned of it');
		my $first = $proxy->client;
		$first->ehlo;
		my @clients = fill($proxy);
		cmp_ok(scalar @clients, '<', $LIMIT, 'at some point no more clients are taken');
		ok($proxy->wait_log(qr/^warn w\d accept err="too many open files in this process"/m), 'the log says why');
		my $reply = $first->send_message(content => $large);
		like($reply, qr/\A45[12]\z/, "one who is here gets $reply for a large message");
		unlike($reply->text, qr{/|127\.}, 'without internals');
		$reply = $first->noop;
		is($reply, 250, 'and is served on');
		is($sink->count, $arrived, 'nothing was delivered of what was not taken');
		is($clients[-1]->noop, 250, 'so are the others');
		# Clients knock for a while: the log must not fill with it.
		for (1 .. 40) {
			my $c = SmtpClient->new($proxy->addr, timeout => 0.05);
			$c->read_reply;
			$c->close;
		}
		cmp_ok(scalar(() = $proxy->log =~ / accept err=/g), '<=', 2, 'the log says it once, and then once a minute');
		is(engine($proxy), $pid, 'the engine lives');

		$_->close for @clients;
		ok(wait_until { $first->send_message(content => $large) == 250 }, 'when they have gone mail passes');
		my $last = wait_until { my $c = SmtpClient->new($proxy->addr); $c->read_reply == 220 ? $c : undef };
		ok($last && $last->send_message(content => $large) == 250, 'and new clients are taken');
		$_->quit for $first, $last;
		ok(wait_until { open_fds($pid) <= $before }, 'no descriptor is left behind')
		    or diag open_fds($pid) . " now, $before before";
		is($proxy->stop, 0, 'postern ends in good order');
	};
}

# One process that sends messages of all sizes as fast as it can, each with a number of its own, and reports
# what became of them.
sub sender
{
	my ($proxy, $id, $until, $out) = @_;
	my $n = 0;

	while (time < $until) {
		my $c = eval { SmtpClient->new($proxy->addr, timeout => 5) } // next;
		next unless $c->read_reply == 220;
		for (1 .. 3) {
			my $key = "$id-" . ++$n;
			my $body = $n % 2 ? $large : "\r\nshort\r\n";
			my $reply = eval { $c->send_message(content => "X-Key: $key\r\n$body") } // 0;
			syswrite $out, "$key $reply\n";
			last unless $reply;
		}
		$c->quit if $n % 3;
	}
	return;
}

subtest 'under load' => sub {
	my $proxy = start('early');
	my $pid = engine($proxy);
	my $dir = temp_dir();
	my $until = time + 4;
	my @children;

	$sink->new_txns;
	for my $id (1 .. 60) {
		my $child = fork // die "fork: $!";
		if ($child == 0) {
			open my $out, '>', "$dir/$id" or POSIX::_exit(1);
			sender($proxy, $id, $until, $out);
			POSIX::_exit(0);
		}
		push @children, $child;
	}
	{
		local $?;
		waitpid $_, 0 for @children;
	}
	my %told = map { split } map { split /\n/, read_file("$dir/$_") // '' } 1 .. 60;
	my %delivered;
	$sink->wait_event(qr/./);
	for my $txn ($sink->new_txns) {
		$delivered{$1}++ if $txn->{ended} eq 'accepted' && $txn->{content} =~ /^X-Key: (\S+)/;
	}
	my %codes;
	$codes{$_}++ for values %told;
	note join ', ', map { "$_: $codes{$_}" } sort keys %codes;
	ok($codes{250}, 'messages pass');
	is(join(' ', grep { !/^(?:0|250|45[12]|421)$/ } sort keys %codes), '', 'what does not is put off');
	is(join(' ', grep { $told{$_} == 250 && !$delivered{$_} } sort keys %told), '', 'each that was taken has arrived');
	is(join(' ', grep { $told{$_} >= 400 && $delivered{$_} } sort keys %told), '', 'none that was put off has');
	is(join(' ', grep { $delivered{$_} > 1 } sort keys %delivered), '', 'and none twice');
	is(engine($proxy), $pid, 'the engine lives');
	unlike($proxy->log, qr/ died /, 'nothing has died');
	cmp_ok(scalar(() = $proxy->log =~ / accept err=/g), '<=', 2, 'the log says once that descriptors are gone');
	my $c = wait_until { my $c = SmtpClient->new($proxy->addr); $c->read_reply == 220 ? $c : undef };
	ok((wait_until { $c->send_message(content => $large) == 250 }), 'then all is as before');
	is($proxy->stop, 0, 'postern ends in good order');
};

done_testing;
