#!/usr/bin/perl
# The filter header: patterns on header fields, verdicts and edits, compared octet for octet.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $sink = SmtpSink->start;

sub proxy
{
	my ($conf) = @_;

	return TestProxy->start(<<"CONF");
workers 1
listener early { listen 127.0.0.1:0; backend inner; received no }
listener late { listen 127.0.0.1:0; backend inner; envelope late; received no }
listener chunks { listen 127.0.0.1:0; backend chunking; received no }
listener traced { listen 127.0.0.1:0; backend inner }
backend inner { hosts @{[ $sink->addr ]} }
backend chunking { hosts @{[ $sink->addr ]}; chunking yes }
default_chain none
$conf
CONF
}

# What the back-end got; undef when it got nothing.
sub passed
{
	my ($proxy, $listener, $to, $content) = @_;
	my $before = $sink->count;
	my $reply = $proxy->client($listener)->send_message(to => "$to\@example.org", content => $content);

	return undef if $reply != 250 || $sink->count != $before + 1;
	return ($sink->messages)[-1]{content};
}

# ---- edits -----------------------------------------------------------------------------------

# name, options, content, what is to become of it
my $plain = "From: a\@b.example\r\nSubject: hello\r\nX-A: 1\r\nx-a: 2\r\n\r\n.body\r\n";
my @edits = (
	[ 'add', 'add X-New "1 2" X-A 3', $plain, $plain =~ s/x-a: 2\r\n\K/X-New: 1 2\r\nX-A: 3\r\n/r ],
	[ 'add to a message without a header', 'add X-New 1', "\r\nbody\r\n", "X-New: 1\r\n\r\nbody\r\n" ],
	[ 'add to a message without a body', 'add X-New 1', "A: 1\r\n", "A: 1\r\nX-New: 1\r\n" ],
	[ 'change', 'change x-a new', $plain, $plain =~ s/X-A: 1/X-A: new/r ],
	[ 'change of what is not there', 'change X-B new', $plain, $plain =~ s/x-a: 2\r\n\K/X-B: new\r\n/r ],
	[ 'remove', 'remove X-A', $plain, $plain =~ s/x-a: \d\r\n//gir ],
	[ 'remove of several, one of them folded', 'remove From X-F', "From: a\r\nX-F: 1\r\n\t2\r\n 3\r\nx-f:\r\n\r\nb\r\n", "\r\nb\r\n" ],
	[ 'remove of what is not there', 'remove X-B', $plain, $plain ],
	[ 'all of it', 'add X-A new; change X-A changed; remove X-A From; subject_tag "[x]"', $plain,
		"Subject: [x] hello\r\nX-A: changed\r\nX-A: new\r\n\r\n.body\r\n" ],
	[ 'tag', 'subject_tag "[spam]"', $plain, $plain =~ s/hello/[spam] hello/r ],
	[ 'tag of a tagged subject', 'subject_tag "[spam]"', "Subject: [spam] hello\r\n\r\n", "Subject: [spam] hello\r\n\r\n" ],
	[ 'tag of an answer to one', 'subject_tag "[spam]"', "Subject: Re: [spam] hello\r\n\r\n", "Subject: Re: [spam] hello\r\n\r\n" ],
	[ 'tag of one that is tagged in an encoded word', 'subject_tag "[spam]"', "Subject: =?utf-8?q?=5Bspam=5D_x?=\r\n\r\n", "Subject: =?utf-8?q?=5Bspam=5D_x?=\r\n\r\n" ],
	[ 'tag without a subject', 'subject_tag "[spam]"', "A: 1\r\n\r\nx\r\n", "A: 1\r\nSubject: [spam]\r\n\r\nx\r\n" ],
	[ 'tag of an empty subject', 'subject_tag "[spam]"', "Subject: \r\nA: 1\r\n\r\nx\r\n", "Subject: [spam]\r\nA: 1\r\n\r\nx\r\n" ],
	[ 'tag of a folded subject', 'subject_tag "[spam]"', "SUBJECT: a\r\n b\r\n\tc\r\nA: 1\r\n\r\n", "SUBJECT: [spam] a\r\n b\r\n\tc\r\nA: 1\r\n\r\n" ],
	[ 'tag of a subject that begins with a fold', 'subject_tag "[spam]"', "Subject:\r\n a\r\n\r\n", "Subject: [spam] a\r\n\r\n" ],
	[ 'tag of an 8-bit and an encoded subject', 'subject_tag "[spam]"', "Subject: \xe4 =?utf-8?q?=C3=A4?=\r\n\r\n", "Subject: [spam] \xe4 =?utf-8?q?=C3=A4?=\r\n\r\n" ],
	[ 'tag of a subject with a fold of white space alone', 'subject_tag "[spam]"', "Subject: a\r\n  \r\n b\r\nA: 1\r\n\r\n", "Subject: [spam] a   b\r\nA: 1\r\n\r\n" ],
	[ 'tag of a subject with a NUL', 'subject_tag "[spam]"', "Subject: a\0b\r\n\r\n", "Subject: [spam] a b\r\n\r\n" ],
	[ 'tag of a subject as long as a line', 'subject_tag "[spam]"', 'Subject: ' . 'x' x 985 . "\r\n\r\n", "Subject: [spam]\r\n " . 'x' x 985 . "\r\n\r\n" ],
	[ 'tag of the first of two subjects', 'subject_tag "[spam]"', "Subject: a\r\nSubject: b\r\n\r\n", "Subject: [spam] a\r\nSubject: b\r\n\r\n" ],
);

my $edits = proxy(join '', map { "header f$_ { $edits[$_][1] }\nrule { recipient r$_\@example.org; chain f$_ }\n" } 0 .. $#edits);

for my $listener ('early', 'late', 'chunks') {
	for my $i (0 .. $#edits) {
		my ($name, $options, $content, $want) = @{ $edits[$i] };

		is(passed($edits, $listener, "r$i", $content), $want, "$listener: $name");
	}
}

subtest 'a large message, which is in a file' => sub {
	my $body = join '', map { ($_ % 100 ? '' : '.') . "line $_ " . 'x' x 60 . "\r\n" } 1 .. 40_000;

	for my $listener ('early', 'late', 'chunks') {
		my $got = passed($edits, $listener, 'r9', "Subject: large\r\nA: 1\r\n\r\n$body");

		ok(defined $got && $got eq "Subject: [spam] large\r\nA: 1\r\n\r\n$body", "$listener: its header is edited, and no octet of its body changes");
	}
};

subtest 'a header of very many fields' => sub {
	my $many = "X-A:\r\n" x 150_000;

	my $got = passed($edits, 'late', 'r5', "A: 1\r\n$many\r\nx\r\n");
	ok(defined $got && $got eq "A: 1\r\n\r\nx\r\n", 'all of a name are removed at once');
};

subtest 'with our Received line' => sub {
	my $got = passed($edits, 'traced', 'r9', "Subject: x\r\n\r\ny\r\n");

	like($got, qr/\AReceived: from [^\0]*?\r\nSubject: \[spam\] x\r\n\r\ny\r\n\z/, 'it stays on top');
};

# ---- patterns and verdicts -------------------------------------------------------------------

my $proxy = proxy(<<'CONF');
header subject { match Subject /viagra|^buy caf\x{e9}$/; verdict reject; code 554; status 5.7.0; text "no, thanks" }
header several { match X-Spam /^yes/ X-Spam-Level /^\*{5}/; verdict discard }
header tag     { match X-Spam /^yes/ ; subject_tag "[spam]" }
header tagged  { match Subject /^\[spam\]/ ; remove X-Spam; add X-Seen tagged }
header allow   { match X-Key /^secret$/ ; verdict accept; remove X-Key }
header slow    { match X-Slow /^(a|a|aa)+$/ ; verdict reject }
header open    { match X-Slow /^(a|a|aa)+$/ ; verdict reject; on_failure pass }
always last    { verdict tempfail; text last }
rule { recipient subject@example.org; chain subject }
rule { recipient several@example.org; chain several }
rule { recipient tags@example.org; chain tag tag2 tagged }
rule { recipient allow@example.org; chain allow last }
rule { recipient slow@example.org; chain slow }
rule { recipient open@example.org; chain open }
header tag2    { match X-Spam /^yes/ ; subject_tag "[spam]" }
CONF
my $n = 0;

sub verdict
{
	my ($to, $header) = @_;
	my $reply = $proxy->client('late')->send_message(to => "$to\@example.org", content => "$header\r\n\r\nSubject: viagra\r\n");
	my $line = $proxy->wait_summary(++$n);

	return $line->{verdict} . ' ' . $reply->raw =~ s/\r\n//r;
}

like(verdict('subject', 'Subject: hello'), qr/^pass 250 /, 'a pattern that does not match lets the message pass');
is(verdict('subject', 'Subject: Cheap VIAGRA'), 'reject 554 5.7.0 no, thanks', 'one that matches gives the verdict, whatever the case');
is(verdict('subject', "Subject: via\r\n gra and\r\n\tviagra"), 'reject 554 5.7.0 no, thanks', 'a folded value is unfolded');
is(verdict('subject', 'Subject: =?utf-8?B?dmlhZ3Jh?='), 'reject 554 5.7.0 no, thanks', 'a value in base64 is decoded');
is(verdict('subject', "Subject: =?utf-8?q?via?=\r\n =?iso-8859-1?q?gra?="), 'reject 554 5.7.0 no, thanks', 'so is one in two encoded words');
is(verdict('subject', 'Subject: =?iso-8859-1?q?buy_caf=E9?='), 'reject 554 5.7.0 no, thanks', 'and one in latin1');
is(verdict('subject', "Subject: =?x?q?viagra"), 'reject 554 5.7.0 no, thanks', 'what is no encoded word is looked at as it is');
is(verdict('subject', "Subject: a\r\nSubject: viagra"), 'reject 554 5.7.0 no, thanks', 'a second field of that name counts');
is(verdict('subject', "Subject : viagra"), 'reject 554 5.7.0 no, thanks', 'so does one with a blank before the colon');
is(verdict('subject', "rubbish\r\nSubject: viagra"), 'reject 554 5.7.0 no, thanks', 'and one behind a line that is no field');
like(verdict('subject', 'X-Subject: viagra'), qr/^pass 250 /, 'another field does not');
is(verdict('several', 'X-Spam: yes'), 'discard 250 2.0.0 Ok: discarded', 'of several matches the first is enough');
is(verdict('several', 'X-Spam-Level: ******'), 'discard 250 2.0.0 Ok: discarded', 'and so is the second');
like(verdict('several', "X-Spam: no\r\nX-Spam-Level: **"), qr/^pass 250 /, 'none is not');
like(verdict('allow', 'X-Key: secret'), qr/^accept 250 /, 'accept ends the chain');
is(($sink->messages)[-1]{content}, "\r\nSubject: viagra\r\n", 'and its edits count');
is(verdict('allow', 'X-Key: guess'), 'tempfail 451 4.7.1 last', 'without a match the chain goes on');

subtest 'in a chain' => sub {
	is(passed($proxy, 'late', 'tags', "X-Spam: yes\r\nSubject: x\r\n\r\ny\r\n"), "Subject: [spam] x\r\nX-Seen: tagged\r\n\r\ny\r\n",
		'a filter sees what those before it did, and a tag is put once');
	is(passed($proxy, 'late', 'tags', "Subject: x\r\n\r\ny\r\n"), "Subject: x\r\n\r\ny\r\n", 'a message that none is about stays as it is');
	$n += 2;
};

subtest 'a pattern that goes over its limits' => sub {
	my $long = 'X-Slow: ' . 'a' x 200 . 'b';

	like(verdict('slow', $long), qr/^tempfail 451 4\.3\.0 /, 'is a failure of the filter');
	ok($proxy->wait_log(qr/^warn .* filter filter=slow err=.* on_failure=tempfail$/m), 'which the log tells');
	like(verdict('open', $long), qr/^pass 250 /, 'and on_failure says what becomes of the message');
};

# ---- configuration ---------------------------------------------------------------------------

my $dir = temp_dir();

sub said
{
	my ($options) = @_;
	my $file = "$dir/p";

	write_file($file, "listener front { listen 127.0.0.1:10025; backend inner }\nbackend inner { discard yes }\n"
		. "header f { $options }\ndefault_chain f\n");
	my $out = `'@{[ $proxy->program ]}' -T -c '$file' 2>&1 >/dev/null </dev/null`;
	return $out =~ s/^\Q$file\E:3:1: header f: //r =~ s/\n\z//r;
}

my @wrong = (
	[ '', 'it does nothing: give it add, change, remove, mark, subject_tag or another verdict' ],
	[ 'match Subject /x/', 'it does nothing: give it add, change, remove, mark, subject_tag or another verdict' ],
	[ 'match Subject x; add A 1', 'match: behind Subject stands a /pattern/ ("x" is none)' ],
	[ 'match Subject; add A 1', 'match: a /pattern/ is missing behind Subject (values with blanks stand in quotes)' ],
	[ 'match Subject: /x/; add A 1', 'match: "Subject:" is no name of a header field (it stands without its colon)' ],
	[ 'add X-A', 'add: a value is missing behind X-A (values with blanks stand in quotes)' ],
	[ 'add X-A 1 2', 'add: a value is missing behind 2 (values with blanks stand in quotes)' ],
	[ 'add "X A" 1', 'add: "X A" is no name of a header field' ],
	[ 'add ' . 'x' x 101 . ' 1', 'add: "' . 'x' x 101 . '" is no name of a header field' ],
	[ "add X-A \"\xc3\xa4\"", 'add: the value of X-A must be printable ASCII, at most 900 octets' ],
	[ 'change X-A ' . 'x' x 901, 'change: the value of X-A must be printable ASCII, at most 900 octets' ],
	[ 'remove X-A:', 'remove: "X-A:" is no name of a header field (it stands without its colon)' ],
	[ 'remove received', 'remove: Received lines must stay, mail loops are found by them' ],
	[ 'change Received x', 'change: Received lines must stay, mail loops are found by them' ],
	[ 'subject_tag ""', 'subject_tag: it must be printable ASCII, 1 to 64 octets, and not begin with a blank' ],
	[ 'subject_tag ' . 'x' x 65, 'subject_tag: it must be printable ASCII, 1 to 64 octets, and not begin with a blank' ],
	[ 'verdict reject; add X-A 1', 'it edits messages that are not delivered (verdict reject)' ],
	[ 'verdict reject; code 451', 'code 451 is no reject (a code for it begins with 5)' ],
);
is(said($_->[0]), $_->[1], 'told: ' . $_->[0] =~ s/x{9,}/xxx/r =~ s/[^ -~]/?/gr) for @wrong;
like(said('match Subject /(/; add A 1'), qr/^match Subject: .*missing/, 'told: a pattern that is none');
is(said('verdict reject'), '', 'a verdict alone is for all messages');

done_testing;
