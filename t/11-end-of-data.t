#!/usr/bin/perl
# End of data is CRLF . CRLF and nothing else, whatever was published to fool mail servers, at any split of
# the packets, in DATA and through BDAT. What the back-end gets is compared with a naive model.
use strict;
use warnings;
use Test::More;
use TestProxy;
use TestUtil;
use SmtpSink;

my $sink = SmtpSink->start;
my $proxy = TestProxy->start(<<"CONF");
listener normal { listen 127.0.0.1:0; backend inner; received no }
listener strict { listen 127.0.0.1:0; backend inner; received no; bare_newline reject }
backend  inner  { hosts @{[ $sink->addr ]} }
CONF

# What an attacker hopes that one server takes for the end of data and the other does not.
my @VARIANTS = (
	"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r", "\r.\n", "\n.\r",
	"\n\n.\n\n", "\n\r.\n\r", "\n\r.\r\n", "\r\n\r.\r\n", "\r\r.\r\r", "\r\r\n.\n", "\r\n.\r\r\n",
	"\r\n.\n\r\n", "\n.\r\r\n", "\r\n.\r.\r\n", "\n.\n.\n", "\r\n..\r\n", "\r\n..\n", "\n..\r\n", "\r\n...\r\n",
	"\r\n. \r\n", "\r\n.\t\r\n", "\r\n .\r\n", "\r\n\t.\r\n", "\r\n.\x0b\r\n", "\r\n.\x0c\r\n", "\x0b.\x0b",
	"\r\n\0.\r\n", "\r\n.\0\r\n", "\n\0.\n", "\r\0\n.\r\n", "\r\n.\r\0\n", "\0\r\n.\0\r\n", "\r\n\0.\0\r\n",
	"\x85.\x85", "\xc2\x85.\xc2\x85", "\xe2\x80\xa8.\xe2\x80\xa8", "\x8d\x8a.\x8d\x8a", "\r\n\xae\r\n",
	"\\r\\n.\\r\\n", "=0D=0A.=0D=0A", "\r\nx.\r\n", "\r\n.x\r\n", "\n.\n\r\n",
);
# These hold the true end: what follows them are commands.
my @ENDS = ("\r\n.\r\n", "\r\r\n.\r\n", "\n\r\n.\r\n", "\r\n\r\n.\r\n", "\n.\r\n.\r\n", "\r\n.\n.\r\n.\r\n", "\0\r\n.\r\n");

# Bare LF becomes CRLF and bare CR one space.
sub normalized
{
	my ($content) = @_;

	$content =~ s/\r(?!\n)/ /g;
	$content =~ s/(?<!\r)\n/\r\n/g;
	return $content;
}

# What stands before the end of data, and what behind it.
sub data_model
{
	my ($wire) = @_;

	$wire =~ /(?:\A|(?<=\r\n))\.\r\n/ or die 'no end of data';
	my ($content, $rest) = (substr($wire, 0, $-[0]), substr($wire, $+[0]));
	$content =~ s/(?:\A|(?<=\r\n))\.//g;
	return ($content, $rest);
}

sub has_bare { return $_[0] =~ /\r(?!\n)|(?<!\r)\n/ }

sub shown { return $_[0] =~ s/([^\x21-\x7e])/sprintf '\\x%02x', ord $1/gers }

sub open_transaction
{
	my ($listener) = @_;
	my $client = $proxy->client($listener);

	$client->send("EHLO client.example\r\n");
	$client->expect(250);
	$client->send("MAIL FROM:<good\@example.net>\r\nRCPT TO:<rcpt\@example.org>\r\n");
	$client->expect(250) for 1, 2;
	return $client;
}

my $EVIL = "MAIL FROM:<evil\@example.net>\r\nRCPT TO:<evil\@example.org>\r\nDATA\r\nSubject: evil\r\n\r\nevil";

# Returns '' when the back-end got exactly this content in one message, or none for undef.
sub trouble_at_back_end
{
	my ($content) = @_;
	my @got = grep { $_->{ended} ne 'reset' } $sink->new_txns;

	return @got ? 'a message arrived' : '' unless defined $content;
	return scalar(@got) . ' messages arrived' if @got != 1;
	return 'the sender is ' . $got[0]{mail} if $got[0]{mail} !~ /^FROM:<good\@example.net>/;
	return 'it has a bare CR or LF: ' . shown($got[0]{wire}) if has_bare($got[0]{wire});
	return 'it is ' . shown($got[0]{content}) . ', wanted ' . shown($content) if $got[0]{content} ne $content;
	return '';
}

# One message by DATA in these packets. QUIT ends the session unless the true end came sooner.
sub try_data
{
	my ($listener, @packets) = @_;
	my ($content, $rest) = data_model(join '', @packets);
	my $is_refused = $listener eq 'strict' && has_bare($content);
	my $client = open_transaction($listener);

	$client->data == 354 or return 'no 354';
	$client->send_pieces(@packets);
	my $reply = $client->read_reply;
	return "the reply is $reply" if $reply != ($is_refused ? 550 : 250);
	return 'no 5.6.11' if $is_refused && $reply->enhanced ne '5.6.11';
	if ($rest eq "QUIT\r\n") {
		$reply = $client->read_reply;
		return "then comes $reply" if $reply != 221;
	}
	return 'the session does not end' unless $client->wait_eof;
	return 'there is more: ' . $client->pending if $rest eq "QUIT\r\n" && $client->pending ne '';
	return trouble_at_back_end($is_refused ? undef : normalized($content));
}

sub try_bdat
{
	my ($listener, @chunks) = @_;
	my $content = join '', @chunks;
	my $is_refused = $listener eq 'strict' && has_bare($content);
	my $client = open_transaction($listener);
	my $last = pop @chunks;

	$client->send(join '', (map { sprintf "BDAT %d\r\n%s", length, $_ } @chunks),
		sprintf("BDAT %d LAST\r\n%s", length $last, $last), "QUIT\r\n");
	my @codes = map { $client->read_reply->code } @chunks, $last, 'QUIT';
	my $wanted = join ' ', (250) x @chunks, $is_refused ? 550 : 250, 221;
	return "the replies are @codes, wanted $wanted" if "@codes" ne $wanted;
	return 'the session does not end' unless $client->wait_eof && $client->pending eq '';
	$content = normalized($content);
	$content .= "\r\n" unless $content eq '' || $content =~ /\r\n\z/;
	return trouble_at_back_end($is_refused ? undef : $content);
}

# All ways to cut the text in two near the variant, and octet by octet there.
sub cuts
{
	my ($before, $variant, $behind) = @_;
	my $text = $before . $variant . $behind;
	my $from = length($before) - 1;
	my $to = length($before) + length($variant) + 1;

	return ([$text], (map { [substr($text, 0, $_), substr $text, $_] } $from .. $to),
		[substr($text, 0, $from), (split //, substr $text, $from, $to - $from), substr $text, $to]);
}

my $HEAD = "From: good\@example.net\r\nSubject: probe\r\n\r\ntext";
for my $variant (@VARIANTS) {
	my (@data, @bdat);

	for my $cut (cuts($HEAD, $variant, "$EVIL\r\n.\r\nQUIT\r\n")) {
		push @data, try_data('normal', @$cut), try_data('strict', @$cut);
	}
	for my $cut (cuts($HEAD, $variant, "text\r\n")) {
		push @bdat, try_bdat('normal', @$cut), try_bdat('strict', @$cut);
	}
	my $name = shown($variant);
	is join(', ', grep { $_ ne '' } @data), '', "$name does not end DATA, at any split";
	is join(', ', grep { $_ ne '' } @bdat), '', "$name passes through BDAT as text, at any chunk edge";
}
for my $variant (@ENDS) {
	my @trouble = map { (try_data('normal', @$_), try_data('strict', @$_)) }
	    cuts($HEAD, $variant, "QUIT\r\n");
	is join(', ', grep { $_ ne '' } @trouble), '', shown($variant) . ' ends DATA, at any split';
	@trouble = map { (try_bdat('normal', @$_), try_bdat('strict', @$_)) } cuts($HEAD, $variant, "text\r\n");
	is join(', ', grep { $_ ne '' } @trouble), '', shown($variant) . ' is text in BDAT, at any chunk edge';
}

# At the very begin of the message there is no CRLF before the dot.
for my $text (".\r\n", "..\r\n.\r\n", "\n.\r\n.\r\n", "\r.\r\n\r\n.\r\n", ".\n\r\n.\r\n", ".\rx\r\n.\r\n", "\r\n.\r\n",
	".\r\r\n\r\n.\r\n", "\0.\r\n.\r\n") {
	my @trouble = map { try_data($_, "${text}QUIT\r\n"), try_data($_, split(//, $text), "QUIT\r\n") }
	    qw(normal strict);
	is join(', ', grep { $_ ne '' } @trouble), '', 'the first octets of a message: ' . shown($text);
}

# Whatever the octets are.
my $seed = $ENV{POSTERN_TEST_SEED} // time;
srand $seed;
my @trouble;
for (1 .. 150) {
	my $text = join '', map { ("\r", "\n", '.', "\r\n", 'x', "\0", "\r\n.")[rand 7] } 1 .. 1 + rand 24;
	my $wire = "$text\r\n.\r\nQUIT\r\n";
	next if (data_model($wire))[1] ne "QUIT\r\n";
	my $cut = int rand length $wire;
	push @trouble, map { shown($text) . ": $_" } grep { $_ ne '' }
	    try_data('normal', substr($wire, 0, $cut), substr $wire, $cut);
	my @chunks = $text =~ /(.{1,4})/gs;
	push @trouble, map { shown($text) . " in chunks: $_" } grep { $_ ne '' } try_bdat('normal', @chunks);
}
is join("\n", @trouble), '', "random octets, as the model says (seed $seed)";
{
	try_data('normal', "a\nb\nc\rd\r\r\n\r\n.\r\nQUIT\r\n");
	my $counted = wait_until { my $last = ($proxy->summaries)[-1]; ($last->{bare_lf} // 0) . ($last->{bare_cr} // 0) eq '22' };
	ok $counted, 'the summary line counts what was normalized' or diag $proxy->log =~ /(.*\n)\z/;
}
is $proxy->stop, 0, 'postern ends in good order';
done_testing;
