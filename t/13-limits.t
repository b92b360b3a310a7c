#!/usr/bin/perl
# Limits of the front: lines, errors, recipients, sizes, times and memory, and clients that mean no good.
use strict;
use warnings;
use Test::More;
use TestProxy;
use SmtpSink;
use TestUtil;
use Time::HiRes qw(time sleep);

my $sink = SmtpSink->start(caps => ['PIPELINING', '8BITMIME', 'SMTPUTF8', 'DSN', 'ENHANCEDSTATUSCODES']);
my $proxy = TestProxy->start(<<"CONF");
workers  1
listener front  { listen 127.0.0.1:0; backend inner; max_message 1M; received no }
listener late   { listen 127.0.0.1:0; backend inner; envelope late; received no }
listener brisk  { listen 127.0.0.1:0; backend inner; command_timeout 1s; idle_timeout 2s; data_timeout 1s; min_rate 10 }
listener idle   { listen 127.0.0.1:0; backend inner; command_timeout 20s; idle_timeout 400ms }
backend  inner  { hosts @{[ $sink->addr ]} }
CONF
$proxy->wait_log(qr/backend=inner state=up/) or die 'no back-end';	# EHLO offers what it does
my ($engine) = sort { memory($b) <=> memory($a) } $proxy->children;

# KiB that a process has in memory now.
sub memory
{
	my ($pid) = @_;

	return (read_file("/proc/$pid/status") // '') =~ /^VmRSS:\s+(\d+)/m ? $1 : 0;
}

# Memory that is larger by less than $limit KiB. Sanitizers (which reserve terabytes) and valgrind keep what
# was freed: then nothing is told.
sub stays_small
{
	my ($before, $limit, $name) = @_;
	my $grown = memory($engine) - $before;

	my ($size) = (read_file("/proc/$engine/status") // '') =~ /^VmSize:\s+(\d+)/m;

	return pass("$name (not told by this build)") if $ENV{POSTERN_WRAP} || ($size // 0) > 1 << 30;
	ok $grown < $limit, $name or diag "$grown KiB";
	return;
}

sub greeted
{
	my ($listener) = @_;
	my $client = $proxy->client($listener, timeout => 20);

	$client->ehlo;
	return $client;
}

sub in_transaction
{
	my ($listener) = @_;
	my $client = greeted($listener);

	$client->mail('a@example.net');
	$client->rcpt('b@example.org');
	return $client;
}

# ---- lines and errors ----------------------------------------------------------------------

{
	my $before = memory($engine);
	my $client = greeted('front');
	$client->send('x' x 65536) for 1 .. 256;
	$client->send("\r\nNOOP\r\n");
	is $client->read_reply->enhanced, '5.5.6', 'a command of 16 MiB gets one 500';
	is $client->read_reply, 250, 'and the next is obeyed';
	stays_small($before, 2000, 'it takes no memory');
	$client->quit;
}
{
	my $client = greeted('front');
	$client->send("FOO\r\n" x 30);
	my @codes;
	while (my $reply = $client->read_reply) { push @codes, $reply->code }
	is "@codes", join(' ', (500) x 20, 421), '20 errors end the session with 421';
}
{
	my $client = greeted('front');
	my $n = 5000;
	$client->send("NOOP\r\nVRFY x\r\n" x $n);
	my $wrong = grep { $client->read_reply != 250 || $client->read_reply != 252 } 1 .. $n;
	is $wrong, 0, '10000 pipelined commands are answered in order';
	$client->quit;
}
{
	my $before = memory($engine);
	my $client = greeted('front');
	$client->sock->blocking(0);
	my $sent = 0;
	wait_until {
		$sent += syswrite($client->sock, "HELP\r\n" x 2000) // return time;
		$sent > 4 << 20;
	} 1;
	stays_small($before, 4000, 'replies to a client that does not read do not pile up');
	$client->sock->blocking(1);
	my $got = 0;
	my $left = int $sent / 6;
	while ($got < $left) {
		my $reply = $client->read_reply;
		last if $reply != 214;
		$got++;
	}
	is $got, $left, 'and it gets them all when it reads again';
	$client->close;
}
{
	my $client = $proxy->client('front', timeout => 20);
	my $transcript = join '', "EHLO x.example\r\n";
	$client->command('EHLO x.example');
	$client->send(join '', ("NOOP\r\n") x 20000, "QUIT\r\n");
	$client->half_close;
	my @codes;
	while (my $reply = $client->read_reply) { push @codes, $reply->code }
	is join(' ', scalar(@codes), $codes[-1]), '20001 221', 'a half-close behind QUIT is served to the end';
}

# Garbage is answered with well-formed refusals, or ends the session.
{
	my $seed = $ENV{POSTERN_TEST_SEED} // CORE::time;
	srand $seed;
	my @trouble;
	for (1 .. 30) {
		my $client = $proxy->client('front');
		$client->send(join '', map { chr rand 256 } 1 .. 3000);
		$client->send("\r\n");
		$client->half_close;
		$client->wait_eof;
		my $replies = $client->pending;
		push @trouble, $replies if $replies !~ /\A(?:[45][0-5]\d [\x20-\x7e]*\r\n)+\z/;
	}
	is join('', @trouble), '', "garbage gets refusals, each well formed (seed $seed)";
}

# ---- recipients and sizes ------------------------------------------------------------------

for my $listener (qw(front late)) {
	my $client = greeted($listener);
	my @rcpts = map { "user$_\@example.org" } 1 .. 1002;
	$client->send(join '', "MAIL FROM:<a\@example.net>\r\n", map { "RCPT TO:<$_>\r\n" } @rcpts);
	is $client->read_reply, 250, "$listener: MAIL";
	my @codes = map { $client->read_reply->code } @rcpts;
	is join(' ', @codes), join(' ', (250) x 1000, 452, 452), "$listener: 1000 recipients are taken, more get 452";
	is $client->data, 354, "$listener: DATA";
	$client->send("x\r\n.\r\n");
	is $client->read_reply, 250, "$listener: the message is taken";
	my $txn = ($sink->messages)[-1];
	is_deeply $txn->{rcpt_ok}, [map { "TO:<$_>" } @rcpts[0 .. 999]], "$listener: for all of them, in order";
	$client->quit;
}
{
	$sink->script(rcpt => '550 5.1.1 unknown');
	my $before = memory($engine);
	my $client = greeted('front');
	$client->mail('a@example.net');
	my %codes;
	for (1 .. 40) {
		$client->send(join '', ("RCPT TO:<b\@example.org>\r\n") x 500);
		$codes{ $client->read_reply->code }++ for 1 .. 500;
	}
	is_deeply \%codes, { 550 => 1000, 452 => 19000 }, 'there is an end to refused recipients';
	stays_small($before, 2000, 'they take no memory');
	$sink->script(rcpt => '250 2.1.5 Ok');
	$client->rset;
	is $client->send_message, 250, 'the next transaction begins anew';
	$client->quit;
}
{
	my $client = greeted('front');
	is_deeply [grep { /^SIZE/ } @{ $client->caps }], ['SIZE 1048576'], 'SIZE is our limit when the back-end has none';
	my $reply = $client->mail('a@example.net', 'SIZE=1048577');
	is join(' ', $reply, $reply->enhanced), '552 5.3.4', 'SIZE over it is refused at MAIL';
	my $before = memory($engine);
	my $count = $sink->count;
	$client->mail('a@example.net', 'SIZE=1');
	$client->rcpt('b@example.org');
	$client->data;
	my $line = 'y' x 998 . "\r\n";
	$client->send($line x 100) for 1 .. 200;
	$client->send(".\r\n");
	$reply = $client->read_reply;
	is join(' ', $reply, $reply->enhanced), '552 5.3.4', '20 MB where 1 MiB is allowed are read and refused';
	stays_small($before, 2000, 'they take no memory');
	is $sink->count, $count, 'nothing of it reaches the back-end';
	for my $size (1048575, 1048576, 1048577) {
		my $content = 'z' x ($size - 2) . "\r\n";
		my $want = $size > 1048576 ? 552 : 250;
		is $client->send_message(content => "\r\n" . substr $content, 2), $want, "$size octets by DATA: $want";
		$client->mail('a@example.net');
		$client->rcpt('b@example.org');
		is $client->bdat("\r\n" . substr($content, 2), 500000, 500000), $want, "$size octets by BDAT: $want";
		$client->rset;
	}
	# Line ends that grow count too.
	$client->mail('a@example.net');
	$client->rcpt('b@example.org');
	is $client->bdat("\n" x 600000), 552, 'bare line feeds count as what they become';
	$client->quit;
}
{
	my $before = memory($engine);
	my $count = $sink->count;
	my $client = in_transaction('front');
	$client->send("BDAT 20000000\r\n");
	$client->send('MAIL FROM:<evil@example.net>' . "\r\n" x 36) for 1 .. 200000;
	my $reply = $client->read_reply;
	is join(' ', $reply, $reply->enhanced), '552 5.3.4', 'a chunk of 20 MB where 1 MiB is allowed is refused';
	is $client->noop, 250, 'when all of it has been read, and not as commands';
	stays_small($before, 2000, 'it takes no memory');
	is $sink->count, $count, 'nothing of it reaches the back-end';
	$client->quit;
}
{
	my $client = in_transaction('front');
	$client->send("BDAT 999999999999999999 LAST\r\n" . 'x' x 1000000);
	ok $client->is_silent(0.2), 'a chunk of 10^18 octets is being swallowed';
	$client->reset;
}
{
	my $client = greeted('late');
	my $field = 'X-Long: ' . 'h' x 990 . "\r\n";
	my $n = int 1048576 / length $field;
	is $client->send_message(content => $field x $n . "\r\nbody\r\n"), 250, 'a header of 1 MiB is taken';
	my $reply = $client->send_message(content => $field x ($n + 1) . "\r\nbody\r\n");
	is join(' ', $reply, $reply->enhanced), '554 5.6.0', 'a longer one is refused';
	for my $case ([$n, 250], [$n + 1, 554], [4 * $n, 554]) {
		my ($count, $want) = @$case;
		$client->mail('a@example.net');
		$client->rcpt('b@example.org');
		is $client->bdat($field x $count . "\r\nbody\r\n", 500000, 400000), $want, "$count fields by BDAT: $want";
	}
	is $client->send_message(content => 'X-Long: ' . 'h' x 1100000 . "\r\n\r\nbody\r\n"), 554, 'so is one of a single line';
	is $client->send_message, 250, 'the session goes on';
	$client->quit;
}
{
	my $before = memory($engine);
	my $client = greeted('late');
	is $client->send_message(content => "Subject: x\r\n\r\n" . ('m' x 78 . "\r\n") x 400000), 250, '32 MB are relayed';
	stays_small($before, 3000, 'they take no memory');
	$client->quit;
}

# ---- times ---------------------------------------------------------------------------------

# Ends the session with this reply, soon: whatever was sent meanwhile, octet by octet.
sub is_cut
{
	my ($client, $name, $octets) = @_;
	my $begin = time;

	wait_until {
		$client->send(substr $octets, 0, 1, '') if length $octets;
		!$client->is_silent(0.05);
	} 15;
	my $reply = $client->read_reply;
	is join(' ', $reply, $reply->enhanced // '-'), '421 4.4.2', "$name is cut with 421";
	ok $client->wait_eof, "$name: the session ends";
	return time - $begin;
}

my $count = $sink->count;
is_cut($proxy->client('brisk'), 'a client that says nothing');
is_cut($proxy->client('idle'), 'a client that is idle');
my $took = is_cut(greeted('brisk'), 'a command that trickles in', 'NOOP ' . 'x' x 2000);
cmp_ok $took, '<', 10, 'however long it goes on';
is_cut(in_transaction('brisk'), 'a client that is idle in a transaction');
is_cut(in_transaction('brisk'), 'a recipient that trickles in', 'RCPT TO:<' . 'x' x 2000);
{
	my $client = in_transaction('brisk');
	$client->data;
	$client->send("Subject: x\r\n");
	is_cut($client, 'content that stops');
	$client = in_transaction('brisk');
	$client->send("BDAT 100 LAST\r\nhalf");
	is_cut($client, 'a chunk that stops');
	$client = in_transaction('brisk');
	$client->send("BDAT 4\r\nfull");
	$client->expect(250);
	is_cut($client, 'a message that stops between two chunks');
	$client = greeted('brisk');
	$client->send("BDAT 100 LAST\r\nhalf");
	is_cut($client, 'a refused chunk that stops');
	$client = greeted('brisk');
	$client->send('x' x 5000);
	$client->expect(500);
	is_cut($client, 'an over-long line that trickles on', 'x' x 1000);
	$client = in_transaction('brisk');
	$client->data;
	$client->send_split("Subject: slow but steady\r\n", 1), sleep 0.1 for 1 .. 12;
	$client->send(".\r\n");
	is $client->read_reply, 250, 'content that comes slowly but steadily is taken';
}
is $sink->count, $count + 1, 'nothing else reached the back-end';

# ---- replies in order ----------------------------------------------------------------------

{
	$sink->script(mail => { reply => '250 2.1.0 slow', wait => 'mail' },
		rcpt => [{ reply => '250 2.1.5 first', wait => 'rcpt' }, '550 5.1.1 second', '250 2.1.5 third'],
		final => { reply => '250 2.0.0 done', wait => 'final' });
	my $client = greeted('front');
	$client->send("MAIL FROM:<a\@example.net>\r\nRCPT TO:<b\@example.org>\r\nRCPT TO:<c\@example.org>\r\n"
		. "NOOP\r\nRCPT TO:<d\@example.org>\r\nDATA\r\n");
	ok $client->is_silent, 'while the back-end thinks about MAIL nothing is answered';
	$sink->release('mail');
	is $client->read_reply->text, '2.1.0 slow', 'then MAIL is';
	ok $client->is_silent, 'what is behind a slow RCPT waits, NOOP too';
	$sink->release('rcpt');
	is join(' | ', map { $client->read_reply->text } 1 .. 5),
	    '2.1.5 first | 5.1.1 second | 2.0.0 Ok | 2.1.5 third | End data with <CR><LF>.<CR><LF>',
	    'and then all replies come in order';
	$client->send("x\r\n.\r\nNOOP\r\nQUIT\r\n");
	ok $client->is_silent, 'the end of data waits for the back-end, and what is behind it waits too';
	$sink->release('final');
	is join(' | ', map { $client->read_reply->code } 1 .. 3), '250 | 250 | 221', 'and then the rest is answered';
	is_deeply +($sink->messages)[-1]{rcpt_ok}, ['TO:<b@example.org>', 'TO:<d@example.org>'],
	    'the message went to those that the back-end took';
	$sink->script(mail => '250 2.1.0 Ok', rcpt => '250 2.1.5 Ok', final => '250 2.0.0 Ok');
}

# ---- a client that dies --------------------------------------------------------------------

# Up to each of these points, by EOF and by RST. The last step is not the end of the message.
{
	my @steps = ("EHLO client.example\r\n", "MAIL FROM:<dying\@example.net>\r\n", "RCPT TO:<b\@example.org>\r\n",
		"DATA\r\n", "Subject: x\r\n\r\nhalf", "\r\n.", "\r");
	my @chunks = (@steps[0 .. 2], "BDAT 10\r\nhalf", "anhalf", "BDAT 4 LAST\r\nxx", "x");
	my $mark = $sink->count;
	for my $how (qw(close reset)) {
		for my $script (\@steps, \@chunks) {
			for my $n (0 .. $#$script) {
				my $client = $proxy->client('front');
				for my $step (@$script[0 .. $n]) {
					$client->send($step);
					$client->read_reply if $step =~ /^(?:EHLO|MAIL|RCPT|DATA|anhalf)/;
				}
				$client->$how;
			}
		}
	}
	my $open = sub {
		my %open;
		for (split /\n/, $sink->events) {
			$open{$1} = 1 if /^(\d+) line MAIL/;
			delete $open{$1} if /^(\d+) (?:line RSET|end|accepted)/;
		}
		return scalar keys %open;
	};
	ok +(wait_until { $open->() == 0 } 3), 'a client that dies leaves no transaction open at the back-end';
	is $sink->count, $mark, 'and nothing of it is delivered';
	is greeted('front')->send_message, 250, 'the next client is served';
}
is $proxy->stop, 0, 'postern ends in good order';
done_testing;
