#!/usr/bin/perl
# Under load the engine is killed at random instants: every message whose 250 a client saw is at the
# back-end, and twice there is only what a client had to send again because no reply came.
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

plan skip_all => 'kills its own proxy' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $SECONDS = $ENV{LEDGER_SECONDS} // 12;
my $CLIENTS = 4;
my $KILLS = $ENV{LEDGER_KILLS} // 10;

# One client: messages one after the other, each sent again until it is answered. Writes a line per
# attempt: "id CODE"; 0 stands for no reply.
sub load
{
	my ($addr, $number, $file, $until) = @_;
	my $c;

	open my $out, '>', $file or POSIX::_exit(1);
	$out->autoflush(1);
	$SIG{PIPE} = 'IGNORE';
	for (my $n = 1; time < $until; $n++) {
		my $id = "c$number-$n";
		# Small ones and large ones: in memory, in a file, longer than a socket's buffer.
		my $size = (100, 5000, 90_000, 600_000)[$n % 4];
		my $content = "Subject: $id\r\nMessage-ID: <$id\@ledger.example>\r\n\r\n"
		    . "$id the body\r\n" x ($size / length "$id the body\r\n");
		my $code = 0;
		until ($code == 250 || time > $until + 20) {
			$code = eval {
				$c //= SmtpClient->connect($addr, timeout => 20);
				$c->send_message(from => "$id\@example.net", content => $content,
					pipeline => $n % 3 == 0)->code;
			} // 0;
			print $out "$id $code\n";
			undef $c unless $code == 250 || ($code >= 400 && $code < 600 && $code != 421);
			# A 4xx: after a while, like an MTA with little patience.
			sleep 0.05 if $code != 250;
		}
	}
	return;
}

sub engine
{
	my ($proxy) = @_;

	return (grep { (read_file("/proc/$_/comm") // '') =~ /^postern-engine/ } $proxy->children)[0];
}

for my $envelope ('early', 'late') {
	subtest "envelope $envelope" => sub {
		my $sink = SmtpSink->start;
		my $proxy = TestProxy->start(<<"CONF");
listener front { listen 127.0.0.1:0; backend inner; envelope $envelope }
backend inner { hosts @{[ $sink->addr ]} }
workers 2
CONF
		my $dir = temp_dir();
		my $begin = time;
		my $until = $begin + $SECONDS / 2;
		my @clients;

		for my $number (1 .. $CLIENTS) {
			my $pid = fork // die "fork: $!";
			if ($pid == 0) {
				load($proxy->addr, $number, "$dir/$number", $until);
				POSIX::_exit(0);
			}
			push @clients, $pid;
		}
		my %killed;
		while (time < $until) {
			sleep rand(2 * $SECONDS / 2 / $KILLS);
			my $engine = engine($proxy) or next;
			kill 'KILL', $engine;
			$killed{$engine} = 1;
		}
		my $ended = 0;
		$ended += wait_until { my $r = waitpid $_, POSIX::WNOHANG(); $r == $_ || $r < 0 } 40 for @clients;
		is($ended, $CLIENTS, 'every client comes to an end');
		cmp_ok(time - $begin, '<', $SECONDS / 2 + 40, 'in bounded time');
		my $killed = keys %killed;
		cmp_ok($killed, '>=', 3, 'the engine was killed several times');
		my $deaths = sub { return scalar(() = $proxy->log =~ / died process=engine .*signal=/g) };
		ok(wait_until { $deaths->() == $killed }, 'which is in the log, each time');

		my (%seen, %silent, %arrived, %damaged);
		for my $line (map { split /\n/, read_file("$dir/$_") } 1 .. $CLIENTS) {
			my ($id, $code) = split ' ', $line;
			$seen{$id}++ if $code == 250;
			# Without a reply, or told that the reply of the back-end was lost.
			$silent{$id}++ if $code == 0 || $code >= 400;
		}
		for my $txn ($sink->messages) {
			my ($id) = $txn->{mail} =~ /<(\S+)\@example\.net>/;
			$arrived{$id}++;
			my $lines = () = $txn->{content} =~ /^\Q$id\E the body\r$/mg;
			my $others = () = $txn->{content} =~ /^(?!\Q$id\E).* the body\r$/mg;
			my $whole = $txn->{content} =~ /\r\n\r\n(?:\Q$id\E the body\r\n)+\z/;
			my $size = (100, 5000, 90_000, 600_000)[($id =~ /-(\d+)/)[0] % 4];
			$damaged{$id}++ if $others || !$whole || $lines != int($size / length "$id the body\r\n");
		}
		my @missing = grep { !$arrived{$_} } keys %seen;
		my @needless = grep { $arrived{$_} > 1 + ($silent{$_} // 0) } keys %arrived;
		my @doubled = grep { $arrived{$_} > 1 } keys %arrived;
		is("@missing", '', 'every message that was answered with 250 is at the back-end');
		is("@needless", '', 'none is there more often than it went without an answer');
		is(join(' ', keys %damaged), '', 'and each is whole');
		is(join(' ', grep { $seen{$_} > 1 } keys %seen), '', 'no message was answered with 250 twice');
		cmp_ok(scalar keys %seen, '>=', 20, 'there was mail enough');
		note sprintf '%d messages, %d kills, %d twice at the back-end', scalar keys %seen, $killed, scalar @doubled;
		is($proxy->stop, 0, 'and it stops in order');
		is(join(' ', glob $proxy->dir . '/spool/*'), '', 'nothing is left in the spool');
	};
}

done_testing;
