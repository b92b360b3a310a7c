#!/usr/bin/perl
# Plays t/dialog/*.smtp: each page is one SMTP session, and what the back-end must have seen of it.
#
# The first comment says what must be true. Then, line by line:
#   O: option value    of the listener                K: step reply    what the back-end says (SmtpSink)
#   C: line            we send it with CRLF           C+ octets        without
#   S: start           one reply begins so            S~ pattern       one reply matches
#   E:                 the connection ends            W: (see below)
#   N: number          messages the back-end took     X: octets        content of the last one
#   L: line            a command the back-end got     V: line          one that it did not get
# C lines that follow each other leave in one packet. In what is sent or compared \r \n \t \0 \xHH stand
# for octets, and {text*3} for texttexttext.
#
# Each page is played twice, in whole packets and octet by octet, with the same result; but for those with
# W:, where it matters what arrives together.
use strict;
use warnings;
use Test::More;
use TestProxy;
use SmtpSink;
use TestUtil;

my %ESCAPE = (r => "\r", n => "\n", t => "\t", 0 => "\0", '\\' => '\\');
my %stage;	# what pages with the same options share

sub octets
{
	my ($text) = @_;

	$text =~ s/\{([^{}*]+)\*(\d+)\}/$1 x $2/ge;
	$text =~ s/\\(?:x([0-9a-fA-F]{2})|([rnt0\\]))/defined $1 ? chr hex $1 : $ESCAPE{$2}/ge;
	return $text;
}

sub read_page
{
	my ($path) = @_;
	my %page = (steps => [], options => [], script => {}, whole => 0);

	for my $line (split /\n/, read_file($path)) {
		if ($line =~ /^#\s*(.*)/) { $page{name} //= $1; next }
		next if $line eq '';
		my ($what, $arg) = $line =~ /^([A-Z][:+~])(?: (.*))?$/ or die "$path: what is \"$line\"?\n";
		$arg //= '';
		if ($what eq 'O:') { push @{ $page{options} }, $arg }
		elsif ($what eq 'W:') { $page{whole} = 1 }
		elsif ($what eq 'K:') { $page{script}{$1} = octets($2) if $arg =~ /^(\w+) (.*)/ }
		else { push @{ $page{steps} }, [$what, $arg] }
	}
	return \%page;
}

sub stage_for
{
	my ($page) = @_;
	my $options = join '; ', 'received no', @{ $page->{options} };
	my $key = join '|', $options, %{ $page->{script} };

	return $stage{$key} if $stage{$key};
	my $sink = SmtpSink->start(%{ $page->{script} });
	my $proxy = TestProxy->start(<<"CONF");
hostname proxy.example
listener front { listen 127.0.0.1:0; backend inner; $options }
backend  inner { hosts @{[ $sink->addr ]} }
CONF
	$proxy->wait_log(qr/backend=inner state=up/) or die 'no back-end';	# EHLO offers what it does
	return $stage{$key} = { sink => $sink, proxy => $proxy };
}

# Sends what has gathered.
sub leave
{
	my ($client, $out, $in_octets) = @_;

	return if $$out eq '';
	my $octets = $$out;
	$$out = '';
	return $client->send($octets) unless $in_octets;
	$client->send($_) or last for split //, $octets;
	return;
}

# Returns undef when all went as the page says, else what did not.
sub play
{
	my ($page, $in_octets) = @_;
	my $stage = stage_for($page);
	my $sink = $stage->{sink};
	my $client = SmtpClient->new($stage->{proxy}->addr);
	my ($out, $said) = ('', '');
	my $begin = length $sink->events;
	my $before = $sink->count;
	my $sent = sub { return join "\n", '', (substr $sink->events, $begin) =~ /^\d+ line (.*)$/mg, '' };

	for my $step (@{ $page->{steps} }) {
		my ($what, $arg) = @$step;
		if ($what =~ /^C/) {
			$out .= octets($arg) . ($what eq 'C:' ? "\r\n" : '');
			$said = $arg;
			next;
		}
		leave($client, \$out, $in_octets);
		if ($what eq 'S:' || $what eq 'S~') {
			my $reply = $client->read_reply->raw;
			my $fits = $what eq 'S:' ? index($reply, $arg) == 0 : $reply =~ /$arg/;
			return "after \"$said\": wanted $arg, got \"$reply\"" unless $fits;
			return "\"$reply\" is not well formed" unless is_well_formed($reply);
		} elsif ($what eq 'E:') {
			return "the connection does not end" unless $client->wait_eof;
			return 'there is more: ' . $client->pending if $client->pending ne '';
		} elsif ($what eq 'N:') {
			my $count = $sink->count - $before;
			return "the back-end took $count messages, not $arg" if $count != $arg;
		} elsif ($what eq 'X:') {
			my $content = ($sink->txns)[-1]{content};
			return "the back-end got \"$content\"" if $content ne octets($arg);
		} elsif ($what eq 'L:') {
			my $line = octets($arg);
			return "the back-end did not get $arg" unless wait_until { index($sent->(), "\n$line\n") >= 0 } 5;
		} elsif ($what eq 'V:') {
			return "the back-end got $arg" if index(lc $sent->(), lc octets($arg)) >= 0;
		}
	}
	return 'there is more: ' . $client->pending if $client->pending ne '';
	return;
}

# One code in all lines, printable, no line over 512 octets; and on each line, but for the greeting and what
# answers EHLO, HELO and DATA, an enhanced code of the same class.
sub is_well_formed
{
	my ($reply) = @_;
	my ($code) = $reply =~ /\A([2-5][0-5]\d)/ or return 0;

	return 0 if grep { length > 510 } split /\r\n/, $reply;
	unless ($code =~ /^3/ || $reply =~ /\A2[25]0[- ]proxy\.example\b/) {
		my $class = substr $code, 0, 1;
		return 0 if grep { !/\A\d{3}[- ]$class\.\d{1,3}\.\d{1,3}(?: |\z)/ } split /\r\n/, $reply;
	}
	return $reply =~ /\A(?:$code-[\x20-\x7e\x80-\xff]*\r\n)*$code(?: [\x20-\x7e\x80-\xff]*)?\r\n\z/;
}

for my $path (sort glob srcdir() . '/t/dialog/*.smtp') {
	my $page = read_page($path);
	for my $in_octets ($page->{whole} ? (0) : (0, 1)) {
		my $trouble = eval { play($page, $in_octets) } // $@;
		ok $trouble eq '', "$page->{name}" . ($in_octets ? ', octet by octet' : '')
		    or diag "$path: $trouble";
	}
}
for my $stage (values %stage) {
	is $stage->{proxy}->stop, 0, 'postern ends in good order';
}
done_testing;
