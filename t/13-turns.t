#!/usr/bin/perl
# However much one client pipelines, the others on its worker have their turn, memory stays small, and each command
# gets its reply, in order.
use strict;
use warnings;
use Test::More;
use TestProxy;
use SmtpSink;
use TestUtil;

my $sink = SmtpSink->start;
my $proxy = TestProxy->start(<<"CONF");
workers  1
listener front { listen 127.0.0.1:0 unix:%d/front; backend inner; received no; max_errors 1000000 }
backend  inner { hosts @{[ $sink->addr ]} }
CONF
$proxy->wait_log(qr/backend=inner state=up/) or die 'no back-end';
my ($engine) = sort { status($b, 'VmRSS') <=> status($a, 'VmRSS') } $proxy->children;

# KiB
sub status
{
	my ($pid, $what) = @_;

	return (read_file("/proc/$pid/status") // '') =~ /^\Q$what\E:\s+(\d+)/m ? $1 : 0;
}

sub greeted
{
	my $client = $proxy->client('front', timeout => 20);

	$client->ehlo;
	return $client;
}

# What is sent meanwhile lies there when the engine goes on, in the order in which it came.
sub while_it_stands(&)
{
	my ($code) = @_;

	kill 'STOP', $engine;
	wait_until { (read_file("/proc/$engine/stat") // '') =~ /\) T/ };
	my $result = $code->();
	kill 'CONT', $engine;
	return $result;
}

# As many of a command as the network takes by itself; returns the number.
sub send_many
{
	my ($client, $line, $max) = @_;
	my $octets = $line x $max;
	my $sent = 0;

	$client->sock->blocking(0);
	while ($sent < length $octets) { $sent += syswrite($client->sock, $octets, 65536, $sent) // last }
	$client->sock->blocking(1);
	my $rest = -$sent % length $line;
	return ($sent + $rest) / length $line, $rest ? substr $line, -$rest : '';
}

subtest 'memory' => sub {
	my $c = greeted();
	is $c->mail('', 'X'), 555, 'a MAIL is refused';
	my $before = status($engine, 'VmHWM');
	my ($n, $rest);
	while_it_stands { ($n, $rest) = send_many($c, "MAIL FROM:<> X\r\n", 16384) };
	$c->send($rest);
	cmp_ok $n, '>', 2000, 'thousands of them lie there';
	is scalar(grep { $c->read_reply == 555 } 1 .. $n), $n, 'and are answered';
	my $grown = status($engine, 'VmHWM') - $before;
	# Sanitizers, which reserve terabytes, and valgrind keep what was freed.
	my $is_told = !$ENV{POSTERN_WRAP} && status($engine, 'VmSize') < 1 << 30;
	ok !$is_told || $grown < 4000, 'they never take memory all at once' or diag "$grown KiB";
	$c->quit;
};

subtest 'the others' => sub {
	my ($busy, $other) = (greeted(), greeted());
	my ($n, $rest);

	while_it_stands {
		($n, $rest) = send_many($busy, "NOOP\r\n", 5000);
		$busy->send("${rest}MAIL FROM:<busy\@example.net>\r\n");
		$other->send("MAIL FROM:<other\@example.net>\r\n");
	};
	is $other->read_reply, 250, 'a client behind a busy one is served';
	is scalar(grep { $busy->read_reply == 250 } 0 .. $n), $n + 1, 'the busy one, too';
	is_deeply [map { /^MAIL FROM:<(\w+)@/ ? $1 : () } $sink->commands], ['other', 'busy'],
	    'and its commands did not keep the other one waiting';
	$_->quit for $busy, $other;
};

# Each number comes back, so that the order is seen.
for my $end ('QUIT', 'nothing') {
	for my $split ('in one go', 'in pieces') {
		subtest "thousands of commands, then $end, then no more, $split" => sub {
			my $c = greeted();
			my $n = $end eq 'QUIT' ? 10000 : 3000; # whose replies we need not read at once
			my @lines = map { $_ % 3 ? "X$_\r\n" : $_ % 2 ? "NOOP\r\n" : "RCPT TO:<a\@example.org>\r\n" } 1 .. $n;
			my @want = map { $_ % 3 ? 500 : $_ % 2 ? 250 : 503 } 1 .. $n;
			my $octets = join '', @lines, $end eq 'QUIT' ? "QUIT\r\n" : ();
			my @codes;

			push @want, 221 if $end eq 'QUIT';
			while ($octets ne '') {
				my $piece = substr $octets, 0, $split eq 'in one go' ? 60000 : 1 + int rand 20000, '';
				$c->send($piece);
				# What is read behind a pause is not in the way; half of it stays unread.
				push @codes, map { $c->read_reply->code } 1 .. (($piece =~ tr/\n//) / 2) if $octets ne '';
			}
			$c->half_close;
			while (my $reply = $c->read_reply) { push @codes, $reply->code }
			is "@codes", "@want", 'each has its reply, in order';
			ok $c->wait_eof, 'and then the session ends';
		};
	}
}

# The pipe of a Unix socket is short, and its half-close comes while replies wait.
subtest 'a client that reads nothing before its half-close' => sub {
	my $c = SmtpClient->connect('unix:' . $proxy->dir . '/front', timeout => 20);
	my $n = 10000;
	my @codes;

	$c->ehlo;
	$c->send("HELP\r\n" x $n . "QUIT\r\n");
	$c->half_close;
	wait_until { ioctl $c->sock, 0x541b, my $waiting = pack 'i', 0; unpack('i', $waiting) > 100000 };	# FIONREAD
	while (my $reply = $c->read_reply) { push @codes, $reply->code }
	is join(' ', scalar(grep { $_ == 214 } @codes), $codes[-1]), "$n 221", 'gets all replies';
};

is $proxy->stop, 0, 'postern ends in good order';
done_testing;
