#!/usr/bin/perl
# Under load hosts of a back-end go down and come back: every message whose 250 a client saw is at a host,
# and twice there is only what lost its final reply.
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

plan skip_all => 'wants to start its own proxy' if $ENV{POSTERN_TEST_ADDR};

my $SECONDS = $ENV{LEDGER_SECONDS} // 7 * $TestUtil::PATIENCE;
my $CLIENTS = 6;
# Shared by three hosts, so that one that hangs is found out while the test lasts.
my $BUDGET = 3 * $TestUtil::PATIENCE;

# One client: messages one after the other, each sent again until it is answered. Writes a line per
# attempt: "id CODE TEXT"; 0 stands for no reply.
sub load
{
	my ($addr, $number, $file, $until) = @_;
	my $c;

	open my $out, '>', $file or POSIX::_exit(1);
	$out->autoflush(1);
	for (my $n = 1; time < $until; $n++) {
		my $id = "c$number-$n";
		my $size = (100, 5000, 90_000, 300_000)[$n % 4];
		my $content = "Subject: $id\r\n\r\n" . "$id the body\r\n" x ($size / length "$id the body\r\n");
		my $code = 0;
		until ($code == 250 || time > $until + 20) {
			my $reply = eval {
				$c //= SmtpClient->connect($addr, timeout => 20);
				$c->send_message(from => "$id\@example.net", content => $content, pipeline => $n % 3 == 0);
			};
			$code = $reply ? $reply->code : 0;
			print $out join(' ', $id, $code, $reply ? $reply->text =~ s/\n/ /gr : ''), "\n";
			next if $code == 250;
			# A recipient that was not taken leaves the transaction open.
			undef $c unless $code >= 400 && $code < 500 && eval { $c->rset == 250 };
			sleep 0.02;
		}
	}
	return;
}

# What happens to the hosts meanwhile. Each way to fail has its turn; one host is always there.
my @WAYS = (
	['is killed', sub { $_[0]->stop }],
	['hangs at MAIL or DATA', sub { $_[0]->script(mail => ['250 ok', 'silent'], data => 'silent') }],
	['refuses us', sub { $_[0]->script(greeting => '554 5.3.2 not now') ; $_[0]->script(mail => '421 4.3.2 bye') }],
	['breaks off in the content', sub { $_[0]->script(body => { then => 'rst', at => 2000 }) }],
	['loses its final reply', sub { $_[0]->script(final => { raw => '250 2.0', then => 'close' }) }],
	['breaks off at DATA', sub { $_[0]->script(data => 'close') }],
);

sub heal
{
	my ($sink) = @_;

	$sink->restart(greeting => '220 hello', mail => '250 ok', body => undef, data => '354 go', final => '250 ok');
	return;
}

# How many times did mail move on because of silence?
sub hung { return scalar(() = $_[0]->log =~ / backend .*err="no reply to (?:MAIL|RCPT|DATA)/g) }

for my $case (['order', 'early'], ['round-robin', 'late'], ['least', 'early']) {
	my ($balance, $envelope) = @$case;

	subtest "$balance, envelope $envelope" => sub {
		my @sinks = map { SmtpSink->start } 1 .. 3;
		my $proxy = TestProxy->start(<<"CONF");
listener front { listen 127.0.0.1:0; backend inner; envelope $envelope; budget ${BUDGET}s; final_reserve 0s }
backend inner { hosts @{[ map { $_->addr } @sinks ]}; balance $balance; probe_interval 500ms; max_connections 5 }
workers 2
CONF
		my $dir = temp_dir();
		my $until = time + $SECONDS;
		my @clients;

		for my $number (1 .. $CLIENTS) {
			my $pid = fork // die "fork: $!";
			if ($pid == 0) {
				load($proxy->addr, $number, "$dir/$number", $until);
				POSIX::_exit(0);
			}
			push @clients, $pid;
		}
		my $arrived = sub { my $n = 0; $n += $_->count for @_; return $n };
		my ($faults, @took) = (0);
		for (my $turn = 0; time < $until; $turn++) {
			my $sick = $sinks[$turn % 2 ? 1 : 0];
			my @others = grep { $_ != $sick } @sinks;
			my ($name, $do) = @{ $WAYS[$turn / 2 % @WAYS] };

			sleep 0.1 + rand 0.2;
			my $hung = hung($proxy);
			$do->($sick);
			my ($begin, $before) = (time, $arrived->(@others));
			my $went_on = wait_until { $arrived->(@others) > $before || time > $until } 15;
			push @took, [time - $begin, $name] if $went_on && time < $until;
			sleep 0.1 + rand 0.2;
			# Before a restart ends the silence; the first host gets mail by any balance.
			wait_until { hung($proxy) > $hung || time > $until } 4 if $name =~ /hangs/ && $sick == $sinks[0];
			heal($sick);
			$faults++;
		}
		my $ended = 0;
		$ended += wait_until { my $r = waitpid $_, POSIX::WNOHANG(); $r == $_ || $r < 0 } 40 for @clients;
		is($ended, $CLIENTS, 'every client comes to an end');
		cmp_ok($faults, '>=', 4, 'hosts went down and came back several times');

		my (%seen, %doubtful, %there, %damaged, %codes);
		for my $line (map { split /\n/, read_file("$dir/$_") } 1 .. $CLIENTS) {
			my ($id, $code, $text) = split ' ', $line, 3;
			$codes{"$code $text"}++ if $code != 250;
			$seen{$id}++ if $code == 250;
			$doubtful{$id}++ if ($text // '') =~ /may have been delivered/;
		}
		for my $txn (map { $_->messages } @sinks) {
			my ($id) = $txn->{mail} =~ /<(\S+)\@example\.net>/;
			$there{$id}++;
			$damaged{$id}++ unless $txn->{content} =~ /\r\n\r\n(?:\Q$id\E the body\r\n)+\z/;
		}
		is(join(' ', grep { !$there{$_} } keys %seen), '', 'every message that was answered with 250 is at a host');
		is(join(' ', grep { $there{$_} > 1 + ($doubtful{$_} // 0) } keys %there), '',
			'twice there is only what lost its final reply');
		is(join(' ', keys %damaged), '', 'each is whole');
		is(join(' ', grep { $seen{$_} > 1 } keys %seen), '', 'no message was answered with 250 twice');
		is(join(', ', grep { !/^4/ } keys %codes), '', 'no client heard anything else than come again');
		cmp_ok(scalar keys %seen, '>=', 20, 'there was mail enough');
		note 'silence was found out ', hung($proxy), ' times';
		my @times = sort { $a->[0] <=> $b->[0] } @took;
		note sprintf '%d messages, %d faults, %d doubtful; the next host took over in %.0f to %.0f ms (%s)',
		    scalar keys %seen, $faults, scalar keys %doubtful, 1000 * $times[0][0], 1000 * $times[-1][0], $times[-1][1]
		    if @times;
		note "$codes{$_} x $_" for sort keys %codes;
		is($proxy->stop, 0, 'and it stops in order');
	};
}

done_testing;
