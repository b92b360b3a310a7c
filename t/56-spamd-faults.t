#!/usr/bin/perl
# The filter spamd before one that is slow, silent, lies or goes away, at each step, for each mode and each on_failure:
# no score is made up.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use FakeService;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $sink = SmtpSink->start;
my $timeout = int(2000 * $TestUtil::PATIENCE) . 'ms';
my $small = "Subject: one\r\n\r\none\r\n";
my $large = "Subject: large\r\n\r\n" . ('x' x 70 . "\r\n") x 30000;

# ---- a spamd of our own --------------------------------------------------------------------------

# The head of the request, and all of the message. False: it was cut off.
sub head { my ($c) = @_; my $head = $c->read_to("\r\n\r\n") // return; ($c->{length}) = $head =~ /^Content-length: (\d+)/m; return $head }
sub taken { my ($c) = @_; return defined head($c) && length $c->read($c->{length}) == $c->{length} }

sub says
{
	my ($text, $then) = @_;

	return sub {
		my ($c) = @_;
		taken($c) or return;
		$c->send($text);
		$then ? $c->$then : $c->hold;
	};
}

my $ok = "SPAMD/1.1 0 EX_OK\r\n";
my $ham = "Spam: False ; 0.1 / 5.0\r\n";
my $gone = qr/closed the connection|reset|broken pipe|closed by/;

# name, script, what the log says of it, the size of the message
my @faults = (
	[ 'closes at once', sub { $_[0]->close }, $gone ],
	[ 'resets at once', sub { $_[0]->reset }, $gone ],
	[ 'is silent from the begin', sub { $_[0]->hold }, qr/no answer within/ ],
	[ 'closes behind the head', sub { head($_[0]) }, $gone, $large ],
	[ 'closes within the message', sub { head($_[0]); $_[0]->read(10000) }, $gone, $large ],
	[ 'resets within the message', sub { head($_[0]); $_[0]->read(10000); $_[0]->reset }, $gone, $large ],
	[ 'reads no further', sub { head($_[0]); $_[0]->deaf(20) }, qr/no answer within/, $large ],
	[ 'answers before it has the message', sub { head($_[0]); $_[0]->send("$ok${ham}Content-length: 0\r\n\r\n"); $_[0]->deaf(20) },
		qr/before it had all of the message/, $large ],
	[ 'is silent', says(''), qr/no answer within/ ],
	[ 'closes instead of an answer', says('', 'close'), $gone ],
	[ 'resets instead of an answer', says('', 'reset'), $gone ],
	[ 'says half of its first line', says('SPAMD/1.1 0', 'close'), $gone ],
	[ 'says only its first line', says($ok, 'close'), $gone ],
	[ 'says only its first line and waits', says($ok), qr/no answer within/ ],
	[ 'has no score', says("${ok}Content-length: 0\r\n\r\n"), qr/gave no score/ ],
	[ 'ends within its head', says("$ok$ham", 'close'), $gone ],
	[ 'ends within what it announced', says("$ok${ham}Content-length: 50\r\n\r\nA: 1\r\n", 'close'), $gone ],
	[ 'waits within what it announced', says("$ok${ham}Content-length: 50\r\n\r\nA: 1\r\n"), qr/no answer within/ ],
	[ 'says more than it announced', says("$ok${ham}Content-length: 2\r\n\r\nA: 1\r\n"), qr/more than it had announced/ ],
	[ 'announces too much', says("$ok${ham}Content-length: 99999999999\r\n\r\n"), qr/too long/ ],
	[ 'announces nonsense', says("$ok${ham}Content-length: 5x\r\n\r\n"), qr/it said "Content-length: 5x"/ ],
	[ 'announces twice', says("$ok${ham}Content-length: 5\r\nContent-length: 5\r\n\r\n"), qr/it said "Content-length: 5"/ ],
	[ 'speaks of an error', says("SPAMD/1.0 76 Bad header line: (Content-Length mismatch)\r\n", 'close'), qr/it said "SPAMD\/1.0 76 Bad header line: / ],
	[ 'has no time', says("SPAMD/1.0 79 Timeout: (30 second timeout while trying to CHECK)\r\n", 'close'), qr/it said "SPAMD\/1.0 79 Timeout/ ],
	[ 'is another service', says("HTTP/1.1 200 OK\r\n\r\n"), qr/it is no spamd: it said "HTTP/ ],
	[ 'is a mail server', sub { $_[0]->send("220 mail.example ESMTP\r\n"); $_[0]->hold }, qr/it is no spamd: it said "220/ ],
	[ 'has a score that is none', says("${ok}Spam: False ; nan / 5.0\r\n\r\n"), qr/it said "Spam: False ; nan/ ],
	[ 'is of no opinion', says("${ok}Spam: Maybe ; 1.0 / 5.0\r\n\r\n"), qr/it said "Spam: Maybe/ ],
	[ 'has two opinions', says("${ok}${ham}Spam: True ; 9.0 / 5.0\r\n\r\n"), qr/it said "Spam: True/ ],
	[ 'says what is no field', says("${ok}hello\r\n${ham}\r\n"), qr/it said "hello"/ ],
	[ 'floods with a line', says('', sub { $_[0]->flood('x' x 10000) }), qr/its answer has no end/ ],
	[ 'floods with fields', says($ok, sub { $_[0]->flood("X-A: 1\r\n" x 1000) }), qr/its answer has no end/ ],
	[ 'drips', says('', sub { $_[0]->drip($ok, 0.2 * $TestUtil::PATIENCE) }), qr/no answer within/ ],
);

my %replies = (tempfail => qr/^451 /, reject => qr/^554 /, disconnect => qr/^421 /, pass => qr/^250 /, quarantine => qr/^250 /);

sub proxy
{
	my ($conf) = @_;

	return TestProxy->start(<<"CONF");
workers 1
listener front { listen 127.0.0.1:0; backend inner; received no }
backend inner { hosts @{[ $sink->addr ]} }
quarantine { directory %d/quarantine }
default_chain none
$conf
CONF
}

# ---- each fault ----------------------------------------------------------------------------------

# A message that goes through unchecked tells nothing of it.
sub is_delivered_bare
{
	my ($name) = @_;
	my $got = ($sink->messages)[-1]{content};

	return unlike($got, qr/^X-Spam|^A: 1/m, $name);
}

for my $mode ('symbols', 'process', 'headers') {
	my @how = $mode eq 'symbols' ? sort keys %replies : 'tempfail';
	my @fakes = map { FakeService->start($_->[1], receive => 8192) } @faults;
	my $proxy = proxy(join '', map {
		my $i = $_;
		map { "spamd c$i$_ { socket @{[ $fakes[$i]->addr ]}; mode $mode; timeout $timeout; on_failure $_ }\n"
			. "rule { recipient c$i$_\@example.org; chain c$i$_ }\n" } @how
	} 0 .. $#faults);

	# All at once: most of the time is waiting.
	my $before = $sink->count;
	my %clients;
	for my $i (0 .. $#faults) {
		for my $how (@how) {
			my $c = $clients{"$i $how"} = $proxy->client;
			$c->ehlo;
			$c->mail('s@example.net');
			$c->rcpt("c$i$how\@example.org");
			$c->data;
			$c->send(($faults[$i][3] // $small) . ".\r\n");
		}
	}
	for my $i (0 .. $#faults) {
		my ($name, $script, $words) = @{ $faults[$i] };

		like($clients{"$i $_"}->read_reply->raw, $replies{$_}, "mode $mode, one that $name: $_") for @how;
		is_delivered_bare("mode $mode, one that $name: what passes has no mark") if $mode eq 'symbols';
		my $line = wait_until { ($proxy->log =~ / (filter filter=c${i}tempfail .*)\n/)[0] };
		$line =~ s/\\(.)/$1/g if defined $line;
		like($line // 'no line', $words, "mode $mode, one that $name: the log says so");
	}
	my $count = grep { / pass$/ } keys %clients;
	is($sink->count - $before, $count, "mode $mode: what passes unchecked was delivered, and nothing else");
	is($proxy->stop, 0, "mode $mode: the proxy ends well");
}

# ---- answers that are odd but true -----------------------------------------------------------------

# Of one mode: what it has no place for in the message.
my @lies = (
	[ 'gives no message at all', 'process', "$ok${ham}Content-length: 0\r\n\r\n", qr/the message as spamd made it: it is empty/ ],
	[ 'adds very many fields', 'headers', $ok . $ham . 'Content-length: ' . 10 * 1001 . "\r\n\r\n" . "X-Spam-A:\n" x 1001, qr/more than 1000 fields/ ],
);
for my $case (@lies) {
	my ($name, $mode, $answer, $words) = @$case;
	my $fake = FakeService->start(sub { taken($_[0]); $_[0]->send($answer) });
	my $proxy = proxy("spamd spam { socket @{[ $fake->addr ]}; mode $mode }\nrule { chain spam }");

	is($proxy->client->send_message(content => $small, to => 'r@example.org'), 451, "one that $name: put off");
	ok($proxy->wait_log($words), "one that $name: the log says so");
}

# name, mode, answer, the mark or what there is of the message
my @true = (
	[ 'without a length, in mode check', 'check', "$ok$ham\r\n", qr/^X-Spam-Score: 0\.1\r\n/m ],
	[ 'with a field that nobody knows', 'symbols', "${ok}DidSet: x\r\n${ham}Content-length: 3\r\n\r\nA,B", qr/tests=A,B\r\n/ ],
	[ 'with line ends of one octet', 'symbols', "SPAMD/1.1 0 EX_OK\n${ham}Content-length: 1\n\nA", qr/tests=A\r\n/ ],
	[ 'with a line end behind the names', 'symbols', "$ok${ham}Content-length: 3\r\n\r\nA\r\n", qr/tests=A\r\n/ ],
	[ 'with control characters in the names', 'symbols', "$ok${ham}Content-length: 8\r\n\r\nA\t\e\x80,B\0x", qr/tests=A  \?,B\r\n/ ],
	[ 'with very many names', 'symbols', "$ok${ham}Content-length: 60000\r\n\r\n" . 'ABCDE,' x 10000, qr/tests=(?:ABCDE,){100,}ABCDE\r\n/ ],
	[ 'with a forged field of another name', 'headers', "$ok${ham}Content-length: 35\r\n\r\nBcc: all\@x\r\nX-Spam-A: 1\n 2\n\n\nX: 1\r\n", qr/^X-Spam-A: 1\r\n 2\r\n/m ],
	[ 'of another message, in mode process', 'process', "$ok${ham}Content-length: 9\r\n\r\nA: 1\n\n.x\n", qr/\AA: 1\r\n\r\n\.x\r\n\z/ ],
);
for my $case (@true) {
	my ($name, $mode, $answer, $want) = @$case;
	my $fake = FakeService->start(sub { taken($_[0]); length $answer < 1000 ? $_[0]->drip($answer, 0) : $_[0]->send($answer) });
	my $proxy = proxy("spamd spam { socket @{[ $fake->addr ]}; mode $mode }\nrule { chain spam }");
	my $before = $sink->count;

	is($proxy->client->send_message(content => $small, to => 'r@example.org'), 250, "an answer $name: delivered");
	my $got = ($sink->messages)[-1]{content};
	like($got, $want, "an answer $name: what was made of it");
	unlike($got, qr/^Bcc|^X: 1/m, "an answer $name: and no more");
}

subtest 'a subject that SpamAssassin left alone' => sub {
	my $fake = FakeService->start(sub {
		my ($c) = @_;
		head($c);
		my $head = $c->read($c->{length}) =~ s/\r\n\r\n\K.*//sr;
		$c->send("$ok${ham}Content-length: " . length($head) . "\r\n\r\n$head");
	});
	my $proxy = proxy("spamd spam { socket @{[ $fake->addr ]}; mode headers }\nrule { chain spam }");
	my $odd = "SUBJECT :   two  blanks \r\n\tand a fold  \r\n\r\nx\r\n";

	is($proxy->client->send_message(content => $odd, to => 'r@example.org'), 250, 'is delivered');
	is(($sink->messages)[-1]{content}, $odd, 'as it came: somebody may have signed it');
};

# ---- what is said to it ----------------------------------------------------------------------------

subtest 'the request' => sub {
	my $fake = FakeService->start(sub {
		my ($c) = @_;
		$c->note($c->read_all);
		$c->send("$ok${ham}Content-length: 0\r\n\r\n");
	});
	my $proxy = proxy("spamd spam { socket @{[ $fake->addr ]}; user bob }\nrule { chain spam }");

	is($proxy->client->send_message(content => $small, to => 'r@example.org'), 250, 'one that reads to the end gets one');
	my $len = length $small;
	is_deeply([ $fake->notes ], [ "SYMBOLS SPAMC/1.5\r\nContent-length: $len\r\nUser: bob\r\n\r\n$small" =~ s/\r/\\x0d/gr =~ s/\n/\\x0a/gr ],
		'and all of the request');
};

subtest 'whose preferences, behind a filter that changes the envelope' => sub {
	my $fake = FakeService->start(sub {
		my ($c) = @_;
		$c->note(head($c) =~ /^User: (\S+)/m ? $1 : 'nobody');
		$c->read($c->{length});
		$c->send("$ok${ham}Content-length: 0\r\n\r\n");
	});
	my $i = 0;

	for my $case ([ 'redirect new@example.org', 'new@example.org', ['old@example.org'] ],
		[ 'recipient gone@example.org; remove yes', 'r@example.org', [ 'gone@example.org', 'r@example.org' ] ],
		[ 'add_recipient watch@example.org', 'nobody', ['r@example.org'] ]) {
		my ($does, $want, $to) = @$case;
		my $proxy = proxy("address move { $does; external yes }\nspamd spam { socket @{[ $fake->addr ]}; user %r }\nrule { chain move spam }");

		is($proxy->client->send_message(content => $small, to => $to), 250, "$does: it passes");
		is(($fake->notes)[$i++], $want, '  those of the only recipient that is left');
	}
};

# ---- wrong configurations --------------------------------------------------------------------------

sub said
{
	my ($options) = @_;
	my $proxy = bless { dir => temp_dir() }, 'TestProxy';
	my $file = "$proxy->{dir}/p";

	write_file($file, "listener front { listen 127.0.0.1:10025; backend inner }\nbackend inner { discard yes }\n"
		. "spamd f { $options }\ndefault_chain f\n");
	my $out = `'@{[ $proxy->program ]}' -T -c '$file' 2>&1 >/dev/null </dev/null`;
	return $out =~ s/^\Q$file\E:3:1: spamd f: //r =~ s/\n\z//r;
}

my @wrong = (
	[ 'socket 783', 'socket: "783" is not an address (try 127.0.0.1:783, [::1]:783 or unix:/path)' ],
	[ 'threshold five', 'threshold "five" is no score (try 5.0)' ],
	[ 'threshold 5.', 'threshold "5." is no score (try 5.0)' ],
	[ 'verdict reject; verdict_score 1e3', 'verdict_score "1e3" is no score (try 5.0)' ],
	[ 'verdict_score 10', 'verdict_score has no effect: the verdict is pass (try verdict reject)' ],
	[ 'user ""', 'user: a name has 1 to 200 octets' ],
	[ 'user "a b"', 'user "a b" has a blank or a control character' ],
	[ 'mode process; subject_tag "[spam]"', 'subject_tag: in mode process the message is as SpamAssassin makes it (its option rewrite_header tags the subject)' ],
	[ 'mark no', 'it does nothing: give it mark, subject_tag or another verdict' ],
	[ 'verdict reject; code 450', 'code 450 is no reject (a code for it begins with 5)' ],
);
is(said($_->[0]), $_->[1], "told: $_->[0]") for @wrong;
is(said($_), '', "good: $_") for '', 'mark no; verdict reject', 'mode headers; mark no', 'threshold -2; user %r';

done_testing;
