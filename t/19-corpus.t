#!/usr/bin/perl
# Messages of t/data/corpus (real ones and broken ones) arrive as they were sent, octet for octet: whatever the
# verbs on both sides, the packets, the pipelining, the moment of the envelope; through a real Postfix, and
# into a maildir.
use strict;
use warnings;
use Test::More;
use MtaPostfix;
use SmtpSink;
use TestProxy;
use TestUtil;

my $seed = $ENV{POSTERN_TEST_SEED} // time;
srand $seed;
diag "POSTERN_TEST_SEED=$seed" if $ENV{TEST_VERBOSE};

my %content = map {
	my ($name) = m{corpus/(.*)};
	($name => read_file($_) =~ s/\r?\n/\r\n/gr);
} grep { !m{/LICENCE$} } data_files('corpus/*/*');
my @names = sort keys %content;
cmp_ok scalar @names, '>=', 60, 'the corpus has at least 60 messages';

# What must arrive: the last line ends in CRLF.
sub complete
{
	my ($content) = @_;

	return $content eq '' || $content =~ /\r\n\z/ ? $content : "$content\r\n";
}

# '' or the first difference.
sub difference
{
	my ($got, $want) = @_;

	return 'nothing arrived' unless defined $got;
	return '' if $got eq $want;
	my $n = 0;
	$n++ while $n < length $want && substr($got, $n, 1) eq substr $want, $n, 1;
	return sprintf '%d octets instead of %d, the first other one is %d: %s', length $got, length $want, $n,
	    substr($got, $n > 8 ? $n - 8 : 0, 24) =~ s/([^\x21-\x7e])/sprintf '\\x%02x', ord $1/gers;
}

# Runs the check for each message; it returns '' or what is wrong.
sub each_message
{
	my ($title, $check) = @_;
	my @trouble;

	for my $name (@names) {
		my $trouble = $check->($name, $content{$name});
		push @trouble, "$name: $trouble" if $trouble ne '';
	}
	is join("\n", @trouble), '', $title;
	return;
}

# ---- over the wire -------------------------------------------------------------------------

my $sink = SmtpSink->start;
# Behind a pipelined envelope content does not go by BDAT.
my $stepwise = SmtpSink->start(caps => ['SIZE 104857600', '8BITMIME', 'SMTPUTF8', 'CHUNKING']);
my $proxy = TestProxy->start(<<"CONF", folders => ['box']);
hostname proxy.example
listener early   { listen 127.0.0.1:0; backend inner; received no }
listener late    { listen 127.0.0.1:0; backend inner; received no; envelope late }
listener chunked_early { listen 127.0.0.1:0; backend chunked; received no }
listener chunked_late  { listen 127.0.0.1:0; backend stepwise; received no; envelope late }
listener traced  { listen 127.0.0.1:0; backend inner }
listener chunked_traced { listen 127.0.0.1:0; backend chunked }
listener maildir { listen 127.0.0.1:0; backend box; received no }
backend  inner   { hosts @{[ $sink->addr ]} }
backend  chunked { hosts @{[ $sink->addr ]}; chunking yes }
backend  stepwise { hosts @{[ $stepwise->addr ]}; chunking yes }
backend  box     { maildir %d/box/inbox }
spool    { directory %d/spool; inline 2K }
CONF
my %client;

sub client_at
{
	my ($listener) = @_;

	return $client{$listener} //= do {
		my $client = $proxy->client($listener);
		$client->ehlo;
		$client;
	};
}

# Cuts octets into random pieces, at most 20 of them.
sub pieces
{
	my ($octets) = @_;
	my @cuts = sort { $a <=> $b } map { int rand 1 + length $octets } 1 .. 1 + rand 20;
	my @pieces;
	my $at = 0;

	for my $cut (@cuts, length $octets) {
		push @pieces, substr $octets, $at, $cut - $at if $cut > $at;
		$at = $cut;
	}
	return @pieces;
}

my @ENVELOPE = ("MAIL FROM:<a\@example.net>\r\n", "RCPT TO:<b\@example.org>\r\n");

# The envelope line by line, each after the reply to the one before.
sub send_envelope
{
	my ($client) = @_;

	for my $line (@ENVELOPE) {
		$client->send($line);
		$client->expect(250);
	}
	return;
}

sub send_data
{
	my ($client, $content, $pipelined) = @_;

	if ($pipelined) {
		$client->send(join '', @ENVELOPE, "DATA\r\n");
		$client->expect($_) for 250, 250, 354;
	} else {
		send_envelope($client);
		$client->data == 354 or die 'no 354';
	}
	$client->send($_) for pieces(SmtpClient::stuffed($content));
	return $client->read_reply;
}

# Pipelined: envelope and all chunks in random packets, without waiting for a reply.
sub send_bdat
{
	my ($client, $content, $pipelined) = @_;
	my @chunks = pieces($content);
	my $last = pop @chunks // '';

	unless ($pipelined) {
		send_envelope($client);
		return $client->bdat($content, map { length } @chunks);
	}
	my $wire = join '', @ENVELOPE, (map { 'BDAT ' . length() . "\r\n$_" } @chunks),
	    'BDAT ' . length($last) . " LAST\r\n$last";
	$client->send($_) for pieces($wire);
	$client->expect(250) for @ENVELOPE, @chunks;
	return $client->read_reply;
}

# Sends one message and returns what the back-end got of it, or dies.
sub relayed
{
	my ($listener, $how, $content, $pipelined) = @_;
	my $reply = $how->(client_at($listener), $content, $pipelined);
	my @got = ($listener eq 'chunked_late' ? $stepwise : $sink)->new_txns;

	die 'the reply is ' . $reply->raw if $reply != 250;
	die 'it came by the other verb' if @got && ($listener =~ /chunked/ xor $got[0]{bdat});
	die scalar(@got) . ' messages arrived' if @got != 1 || $got[0]{ended} ne 'accepted';
	return $got[0]{content};
}

# By BDAT on both sides not even the end of the last line is added.
for my $listener ('early', 'late', 'chunked_early', 'chunked_late') {
	for my $by (['DATA', \&send_data], ['BDAT', \&send_bdat]) {
		my ($verb, $how) = @$by;
		my ($out, $envelope) = $listener =~ /^(?:(chunked)_)?(.*)/;
		my $title = "$verb in, " . ($out ? 'BDAT' : 'DATA') . " out, envelope $envelope";

		for my $pipelined (0, 1) {
			each_message $title . ($pipelined ? ', pipelined' : ''), sub {
				my ($name, $content) = @_;
				my $got = eval { relayed($listener, $how, $content, $pipelined) };

				return $@ if $@;
				return difference($got, $out && $verb eq 'BDAT' ? $content : complete($content));
			};
		}
	}
}

my $RECEIVED = qr/\AReceived: from client\.example \(\[127\.0\.0\.1\]\)\r\n\tby proxy\.example \(Postern\) with ESMTP id \S+\r\n\tfor <b\@example\.org>; [^\r\n]+\r\n/;

for my $listener ('traced', 'chunked_traced') {
	each_message "$listener: only our whole Received line stands in front", sub {
		my ($name, $content) = @_;
		my $got = eval { relayed($listener, rand() < 0.5 ? \&send_data : \&send_bdat, $content, 1) };

		return $@ if $@;
		return 'our line is not there: ' . substr $got, 0, 200 unless $got =~ s/$RECEIVED//;
		return difference(complete($got), complete($content));
	};
}

# ---- into a maildir ------------------------------------------------------------------------

my %seen;

# The file in new/ that was not there before, without the two lines that delivery puts in front.
sub delivered
{
	my @new = grep { !$seen{$_}++ } glob $proxy->dir . '/box/inbox/new/*';

	die scalar(@new) . " new files\n" if @new != 1;
	my $text = read_file($new[0]);
	$text =~ s/\AReturn-Path: <a\@example\.net>\nDelivered-To: b\@example\.org\n//
	    or die 'the lines in front are wrong: ' . substr $text, 0, 100;
	return $text;
}

each_message 'a maildir gets each message, with LF', sub {
	my ($name, $content) = @_;
	my $reply = send_data(client_at('maildir'), $content, 1);

	return 'the reply is ' . $reply->raw if $reply != 250;
	return difference(eval { delivered() }, complete($content) =~ s/\r\n/\n/gr) . $@;
};

$_->quit for values %client;
is $proxy->stop, 0, 'postern ends in good order';

# ---- through a real Postfix ----------------------------------------------------------------

# What Postfix took: below the last Received line that it put in front (it did so twice, before and after us).
sub below_postfix
{
	my ($text) = @_;

	return $text =~ s/\A.*^\tby front\.example \(Postfix\)[^\n]*\n(?:\t[^\n]*\n)*//smr;
}

# Sends the corpus to it; returns what arrived, by name.
sub through
{
	my ($mta) = @_;
	my $client = SmtpClient->connect($mta->addr);

	for my $i (0 .. $#names) {
		my $reply = $client->send_message(to => "m$i\@example.org", content => $content{ $names[$i] },
			pipeline => 1);
		die "Postfix says: " . $reply->raw unless $reply == 250;
	}
	$client->quit;
	my %got;
	for my $text ($mta->wait_messages(scalar @names, 60)) {
		my ($i) = $text =~ /\A.*?^Delivered-To: m(\d+)\@/sm or die "what is this?\n$text";
		$got{ $names[$i] } .= $text;	# one that came twice would differ
	}
	return \%got;
}

SKIP: {
	my $why = MtaPostfix->unavailable;
	skip $why, 4 if $why;

	# Nothing of what it rewrites for mail of its own: the messages shall stay as they are.
	my $main = "local_header_rewrite_clients =\nmessage_drop_headers =\n";
	my $plain = MtaPostfix->new(hostname => 'front.example', main => $main);
	my $mta = MtaPostfix->new(hostname => 'front.example', main => $main, recipe => 'content_filter');
	my $conf = read_file(srcdir() . '/contrib/postfix/content_filter.postern.conf');
	$conf =~ s/^user postern/user nobody/m;
	$conf =~ s/127\.0\.0\.1:10025/127.0.0.1:0/;
	$conf =~ s/127\.0\.0\.1:10026/$mta->return_addr/e;
	$conf =~ s{/var/spool/postern}{%d/spool};
	my $filter = TestProxy->start($conf);

	$plain->start;
	my $want = through($plain);
	$plain->stop;
	$mta->start(filter => $filter->addr);
	my $got = through($mta);

	each_message 'what a real Postfix gives Postern comes back the same', sub {
		my ($name) = @_;

		return 'it did not arrive' unless defined $got->{$name};
		return 'our line is not there' unless $got->{$name} =~ /^\tby \S+ \(Postern\) with ESMTP/m;
		return difference(below_postfix($got->{$name}), below_postfix($want->{$name}));
	};
	# It repairs some headers by itself: an empty line before what is none, X-Mailbox-Line for From_.
	my $same = grep {
		difference(below_postfix($got->{$_} // ''), complete($content{$_}) =~ s/\r\n/\n/gr) eq ''
	} @names;
	cmp_ok $same, '>=', @names - 9, 'and but for nine that Postfix changes it is what was sent';
	ok((wait_until { $mta->is_empty }), 'nothing stays in its queue');
	is $filter->stop, 0, 'and postern ends in good order';
}
done_testing;
