#!/usr/bin/perl
# Content passes octet for octet: any size around every buffer, dots at every edge, odd lines, no header,
# no body, no octet at all; in memory and in a file, by DATA and by BDAT in and out, with and without our
# Received line.
use strict;
use warnings;
use Test::More;
use TestProxy;
use SmtpSink;

my $sink = SmtpSink->start;
my %proxy = map {
	my ($name, $inline) = @$_;
	$name => TestProxy->start(<<"CONF");
hostname proxy.example
listener plain  { listen 127.0.0.1:0; backend inner; received no }
listener traced { listen 127.0.0.1:0; backend inner }
listener chunked { listen 127.0.0.1:0; backend chunked; received no }
listener both   { listen 127.0.0.1:0; backend chunked }
backend  inner  { hosts @{[ $sink->addr ]} }
backend  chunked { hosts @{[ $sink->addr ]}; chunking yes }
spool    { directory %d/spool; inline $inline }
CONF
} ['memory', '8M'], ['file', '0'], ['either', '64K'];

my %client;	# by proxy and listener: each connection carries many messages

# Sends by DATA or BDAT (with a list of chunk sizes), returns what the back-end got: one message.
sub relayed
{
	my ($where, $listener, $content, @sizes) = @_;
	my $client = $client{"$where $listener"} //= $proxy{$where}->client($listener, timeout => 30);

	$client->ehlo unless @{ $client->caps };
	$client->send("MAIL FROM:<a\@example.net>\r\nRCPT TO:<b\@example.org>\r\n");
	$client->expect(250) for 1, 2;
	my $reply;
	if (@sizes) {
		$reply = $client->bdat($content, $sizes[0] < 0 ? () : @sizes);
	} else {
		$client->data == 354 or die 'no 354';
		$client->send(SmtpClient::stuffed($content));
		$reply = $client->read_reply;
	}
	my @got = $sink->new_txns;
	return { trouble => "the reply is " . $reply->raw } if $reply != 250;
	return { trouble => 'it came by the other verb' }
	    if @got && ($listener =~ /chunked|both/ xor $got[0]{bdat});
	return { trouble => scalar(@got) . ' messages arrived' } if @got != 1 || $got[0]{ended} ne 'accepted';
	return $got[0];
}

# '' or the first difference.
sub difference
{
	my ($got, $want) = @_;

	return '' if $got eq $want;
	my $n = 0;
	$n++ while substr($got, $n, 1) eq substr $want, $n, 1;
	return sprintf '%d octets instead of %d, the first other one is %d: %s', length $got, length $want, $n,
	    substr($got, $n > 8 ? $n - 8 : 0, 24) =~ s/([^\x21-\x7e])/sprintf '\\x%02x', ord $1/gers;
}

# Our line in front of what was sent. Returns '' or what is wrong.
sub trace_trouble
{
	my ($got, $want) = @_;

	$got =~ s/\A(Received: from client\.example \(\[127\.0\.0\.1\]\)\r\n\tby proxy\.example \(Postern\) with ESMTP id \S+\r\n\tfor <b\@example\.org>; [^\r\n]+\r\n)//
	    or return 'our line is not there: ' . substr $got, 0, 200;
	return difference($got, $want);
}

# One content on all ways. A last line without CRLF gets one, but not from BDAT to BDAT.
sub all_ways
{
	my ($name, $content) = @_;
	my $want = $content eq '' || $content =~ /\r\n\z/ ? $content : "$content\r\n";
	my @chunks = map { int rand 2 + length($content) / 3 } 1 .. 3;
	my @trouble;

	for my $where (sort keys %proxy) {
		for my $by (['DATA'], ['BDAT', -1], ['BDAT', @chunks]) {
			my ($verb, @sizes) = @$by;
			my $got = relayed($where, 'plain', $content, @sizes);
			my $trouble = $got->{trouble} // difference($got->{content}, $want);
			push @trouble, "$where, $verb @sizes: $trouble" if $trouble ne '';
			$got = relayed($where, 'chunked', $content, @sizes);
			$trouble = $got->{trouble} // difference($got->{content}, @sizes ? $content : $want);
			push @trouble, "$where, $verb @sizes, BDAT out: $trouble" if $trouble ne '';
		}
		for my $listener ('traced', 'both') {
			my $got = relayed($where, $listener, $content);
			my $trouble = $got->{trouble} // trace_trouble($got->{content}, $want);
			push @trouble, "$where, $listener, with Received: $trouble" if $trouble ne '';
		}
	}
	is join("\n", @trouble), '', $name;
	return;
}

my $HEAD = "From: a\@example.net\r\nSubject: content\r\n\r\n";
my $seed = $ENV{POSTERN_TEST_SEED} // time;
srand $seed;
diag "POSTERN_TEST_SEED=$seed" if $ENV{TEST_VERBOSE};

# Lines of ordinary length up to $size octets, CRLF at the end.
sub filled
{
	my ($size) = @_;
	my $text = $HEAD;
	my $n = 0;

	return 'x' x $size if $size < 2;
	while (length($text) < $size) {
		$text .= sprintf "%06d %s\r\n", $n++, 'abcdefghij' x int rand 7;
	}
	substr($text, $size > 2 ? $size - 2 : 0) = '';
	$text =~ s/[\r\n]+\z/sprintf '%s', 'y' x length $&/e;
	return substr "$text\r\n", 0, $size;
}

# ---- what a message may look like ----------------------------------------------------------

all_ways('a message of no octet', '');
all_ways('a message of one line end', "\r\n");
all_ways('a message of one octet', 'x');
all_ways('a message of one dot', '.');
all_ways('only dots, a line each', ".\r\n" x 100);
all_ways('only dots, in one line', '.' x 5000);
all_ways('dots before everything', join '', map { '.' x $_ . "\r\n" } 1 .. 50);
all_ways('a header and no body', "Subject: x\r\nTo: b\r\n");
all_ways('a header, an empty line and no body', $HEAD);
all_ways('a body and no header', "\r\nbody\r\n");
all_ways('text that is no header', "this is no header\r\nnor this: it is\r\n");
all_ways('a first line that begins with a blank', " folded\r\nSubject: x\r\n\r\ny\r\n");
all_ways('a mailbox From_ line at the top', "From a\@example.net Mon Jan  1 00:00:00 2024\r\n${HEAD}x\r\n");
all_ways('a quoted mailbox From_ line at the top', ">From a\@example.net\r\n${HEAD}x\r\n");
all_ways('From_ lines in the body', "${HEAD}From here\r\n>From there\r\n");
all_ways('no line end at the end', "${HEAD}no line end");
all_ways('NUL in header and body', "Subject: a\0b\r\n\r\n\0\0\r\n\0.\r\n");
all_ways('8-bit octets', "Subject: \xff\xfe\r\n\r\n" . join('', map { chr } 128 .. 255) . "\r\n");
all_ways('all octets but CR and LF', $HEAD . join('', grep { !/[\r\n]/ } map { chr } 0 .. 255) . "\r\n");
all_ways('a line of 1 MiB', $HEAD . 'l' x 1048576 . "\r\n");
all_ways('lines of 998, 999 and 1000 octets', $HEAD . join '', map { 'l' x $_ . "\r\n" } 998 .. 1000);
all_ways('a body line of 1 MiB without header', 'l ' x 524288 . "\r\n");
all_ways('blank lines at the end', "${HEAD}x\r\n" . "\r\n" x 1000);
all_ways('MIME with a boundary of dots', "Content-Type: multipart/mixed; boundary=\".\"\r\n\r\n--.\r\n\r\n.\r\n--.--\r\n");

# ---- dots ----------------------------------------------------------------------------------

all_ways("$_ lines that begin with a dot", $HEAD . ".line\r\n" x $_) for 1023, 1024, 1025;
all_ways('5000 lines that begin with a dot', $HEAD . join '', map { ".$_\r\n" } 1 .. 5000);
all_ways('60000 octets with 20000 dot lines', ".\r\n" x 20000);
all_ways('14000 long lines that begin with a dot', $HEAD . (".\r\n..\r\n." . 'x' x 70 . "\r\n") x 7000);

# Ordinary text with dot lines at this offset.
sub with_dots_at
{
	my ($size, $at) = @_;
	my $text = filled($size);

	for my $off (@$at) {
		substr($text, $off - 2, 3) = "\r\n." if $off >= 2 && $off < $size - 4;
	}
	$text =~ s/\r(?!\n)/r/g;	# what the line ends above have cut
	$text =~ s/(?<!\r)\n/n/g;
	return $text;
}

my @EDGES = (512, 1024, 4096, 8192, 16384, 32768, 49152, 65536, 131072);
for my $size (0 .. 3, map { ($_ - 1, $_, $_ + 1) } @EDGES) {
	all_ways("$size octets", filled($size));
}
for my $edge (grep { $_ >= 1024 } @EDGES) {
	my @contents = map { with_dots_at(2 * $edge, [$_, $_ + 3, $_ + 6]) } $edge - 3 .. $edge + 2;
	my @trouble;
	for my $content (@contents) {
		for my $where (sort keys %proxy) {
			my $got = relayed($where, 'plain', $content);
			push @trouble, $got->{trouble} // difference($got->{content}, $content);
			$got = relayed($where, 'plain', $content, $edge, 1, 1, 1);
			push @trouble, $got->{trouble} // difference($got->{content}, $content);
		}
	}
	is join("\n", grep { $_ ne '' } @trouble), '', "dot lines around octet $edge";
}
all_ways("$_ octets", filled($_)) for 1048575, 1048576, 1048577;
all_ways('4 MiB and a bit', filled(4 * 1048576 + 17));

# ---- packets -------------------------------------------------------------------------------

# A whole message octet by octet, commands and end included.
{
	my $content = "${HEAD}.one\r\n..two\r\n\r\n.\r\n";
	my $client = $proxy{either}->client('plain');
	$client->ehlo;
	for my $octets ("MAIL FROM:<a\@example.net>\r\n", "RCPT TO:<b\@example.org>\r\n", "DATA\r\n",
		SmtpClient::stuffed($content)) {
		$client->send_split($octets, 1);
		$client->read_reply->code =~ /^[23]/ or die;
	}
	is difference(($sink->new_txns)[0]{content}, $content), '', 'a message that comes octet by octet';
	$client->quit;
}

# The same message in pieces of all sizes.
{
	my $content = with_dots_at(20000, [map { 100 * $_ } 5 .. 195]);
	my @trouble;
	for my $size (7, 100, 1447, 1448, 4095, 4096, 16383) {
		my $client = $proxy{either}->client('plain');
		$client->ehlo;
		$client->send("MAIL FROM:<a\@example.net>\r\nRCPT TO:<b\@example.org>\r\nDATA\r\n");
		$client->expect(250, 354) for 1 .. 3;
		my @pieces = unpack "(a$size)*", SmtpClient::stuffed($content);
		$client->send($_) for @pieces;
		push @trouble, "pieces of $size: " . $client->read_reply->raw;
		pop @trouble if $trouble[-1] =~ /: 250/;
		my $difference = difference(($sink->new_txns)[0]{content}, $content);
		push @trouble, "pieces of $size: $difference" if $difference ne '';
		$client->quit;
	}
	is join("\n", @trouble), '', 'a message in pieces of any size';
}

# ---- our Received line ---------------------------------------------------------------------

sub received_of
{
	my ($hello, @rcpts) = @_;
	my $client = $proxy{either}->client('traced');

	$client->command($hello);
	$client->mail('a@example.net');
	$client->rcpt($_) for @rcpts;
	$client->data;
	$client->send("Received: from other by old id 1; Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n.\r\n");
	$client->expect(250);
	$client->quit;
	my ($field) = ($sink->new_txns)[0]{content} =~ /\A(.*?\r\n)(?=\S)/s;
	return $field;
}

like received_of('EHLO client.example', 'b@example.org'),
    qr/\AReceived: from client\.example \(\[127\.0\.0\.1\]\)\r\n\tby proxy\.example \(Postern\) with ESMTP id [0-9a-f]{6}-1\.[0-9a-f]+\r\n\tfor <b\@example\.org>; \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [-+]\d{4}\r\n\z/,
    'the Received line names client, host, protocol, id, the one recipient and the date';
unlike received_of('EHLO client.example', 'b@example.org', 'c@example.org'), qr/for </,
    'with two recipients it names none';
like received_of('HELO client.example', 'b@example.org'), qr/ with SMTP id /, 'HELO is SMTP';
like received_of('EHLO client.example', '"a>b; (c"@example.org'), qr/\r\n\tfor <"a>b; \(c"\@example\.org>; /,
    'an odd recipient stays in its place';
{
	my $client = $proxy{either}->client('traced');
	is $client->send_message(content => "Received: from a by b; now\r\n" x 51 . "\r\nx\r\n")->enhanced, '5.4.6',
	    'more than 50 hops are a loop';
	is $client->send_message(content => "Received: from a by b; now\r\n" x 50 . "\r\nx\r\n"), 250,
	    '50 hops are none';
}
$_->quit for values %client;
is $_->stop, 0, 'postern ends in good order' for values %proxy;
done_testing;
