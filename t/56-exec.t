#!/usr/bin/perl
# The filter exec: what a program is given, and what becomes of its exit code, its words, its files and its JSON.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use JSON::PP;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $sink = SmtpSink->start;
my $dir = temp_dir();
my $seen = "$dir/seen"; # where programs write down what they saw; the user that they run as may

mkdir $seen;
chmod 0777, $seen or die "chmod: $!";

my $scripts = 0;

# A shell script; its path.
sub script
{
	my ($text) = @_;
	my $path = "$dir/s" . ++$scripts;

	write_file($path, "#!/bin/sh\n$text\n", 0755);
	return $path;
}

# One filter per recipient r0, r1 ...
sub proxy
{
	my ($conf, @filters) = @_;
	my $blocks = join '', map { "exec f$_ { $filters[$_] }\nrule { recipient r$_\@example.org; chain f$_ }\n" } 0 .. $#filters;

	return TestProxy->start(<<"CONF");
workers 1
listener front { listen 127.0.0.1:0; backend inner; received no }
backend inner { hosts @{[ $sink->addr ]} }
default_chain none
$blocks
$conf
CONF
}

my $message = "From: a\@b.example\r\nSubject: hello\r\n\r\n.body\r\n";

# The reply, and what the back-end got.
sub sent
{
	my ($proxy, $i, %opt) = @_;
	my $before = $sink->count;
	my $reply = $proxy->client->send_message(to => "r$i\@example.org", content => $message, %opt);

	return ($reply, $sink->count > $before ? ($sink->messages)[-1] : undef);
}

sub is_spool_empty
{
	my ($proxy) = @_;

	return wait_until { !grep { -e } glob $proxy->dir . '/spool/programs.*/*' };
}

# ---- verdicts --------------------------------------------------------------------------------

my $refused = qr/^550 5\.7\.1 message refused\r\n/;
my $failed = qr/^451 4\.3\.0 message could not be checked/;
# name, options, script, reply
my @verdicts = (
	[ 'exit code 0 passes', '', 'exit 0', qr/^250 / ],
	[ 'a code in no list is a failure', '', 'exit 7', $failed ],
	[ 'a code in a range refuses', 'reject_codes 1-3 9', 'exit 2', $refused ],
	[ 'a code behind a range', 'reject_codes 1-3 9', 'exit 9', $refused ],
	[ 'the last code there is', 'reject_codes 255', 'exit 255', $refused ],
	[ 'a code beside a range is a failure', 'reject_codes 1-3 9', 'exit 4', $failed ],
	[ 'tempfail', 'tempfail_codes 75', 'exit 75', qr/^451 4\.7\.1 please try again later\r\n/ ],
	[ 'discard', 'discard_codes 1', 'exit 1', qr/^250 /, 'dropped' ],
	[ 'accept', 'accept_codes 5', 'exit 5', qr/^250 / ],
	[ 'disconnect', 'disconnect_codes 5', 'exit 5', qr/^421 4\.7\.0 / ],
	[ '0 may refuse, too', 'reject_codes 0; pass_codes 1', 'exit 0', $refused ],
	[ '0 that is in no list is a failure', 'pass_codes 1', 'exit 0', $failed ],
	[ 'the end by a signal is a failure, whatever the lists say', 'pass_codes 0-255', 'kill -9 $$', $failed ],
	[ 'on_failure', 'on_failure reject', 'exit 7', qr/^554 5\.3\.0 / ],

	[ 'a reason', 'reject_codes 1', 'echo no such thing; exit 1', qr/^550 5\.7\.1 no such thing\r\n/ ],
	[ 'the first line that is not blank', 'reject_codes 1', 'printf "\n \nfirst\nsecond\n"; exit 1', qr/^550 5\.7\.1 first\r\n/ ],
	[ 'a reason with code and status', 'reject_codes 1', 'echo 554 5.6.0 bad content; exit 1', qr/^554 5\.6\.0 bad content\r\n/ ],
	[ 'a reason with a code alone', 'reject_codes 1', 'echo 553 bad content; exit 1', qr/^553 5\.\d+\.\d+ bad content\r\n/ ],
	[ 'a code of another verdict does not count', 'reject_codes 1', 'echo 450 4.2.0 later; exit 1', qr/^550 5\.7\.1 later\r\n/ ],
	[ 'nor does 250', 'reject_codes 1', 'echo 250 2.0.0 fine; exit 1', qr/^550 5\.7\.1 fine\r\n/ ],
	[ 'nor does 421 for tempfail', 'tempfail_codes 1', 'echo 421 4.2.0 later; exit 1', qr/^451 4\.7\.1 later\r\n/ ],
	[ 'nor one that there is not', 'reject_codes 1', 'echo 599x bad; exit 1', qr/^550 5\.7\.1 599x bad\r\n/ ],
	[ 'control characters in a reason', 'reject_codes 1', 'printf "a\001b\rc\000d\033[1me\303\244f\n"; exit 1', qr/^550 5\.7\.1 a b c d \[1me\?\?f\r\n/ ],
	[ 'a very long reason', 'reject_codes 1', 'printf "%0100000d\n" 1; exit 1', qr/^550 5\.7\.1 0{100,400}\r\n/ ],
	[ 'as E-MailRelay has it', 'reject_codes 1-99', 'echo hello; echo "<<550 not allowed>>"; exit 1', qr/^550 5\.\d+\.\d+ not allowed\r\n/ ],
	[ 'the last line of standard error, when there is no other', 'reject_codes 1', 'echo one >&2; echo two >&2; exit 1', qr/^550 5\.7\.1 two\r\n/ ],
	[ 'no reason wanted', 'reject_codes 1; reply none', 'echo secret; echo secret >&2; exit 1', $refused ],
	[ 'no word of a failure gets out', '', 'echo secret; echo secret >&2; exit 1', $failed ],

	[ 'proxsmtp: 0 passes', 'reply stderr', 'echo 550 no >&2; exit 0', qr/^250 / ],
	[ 'proxsmtp: a refusal', 'reply stderr', 'echo debug >&2; echo 550 5.7.1 Content Rejected >&2; exit 1', qr/^550 5\.7\.1 Content Rejected\r\n/ ],
	[ 'proxsmtp: later', 'reply stderr', 'echo 452 no room >&2; exit 3', qr/^452 4\.\d+\.\d+ no room\r\n/ ],
	[ 'proxsmtp: 250 drops', 'reply stderr', 'echo 250 dropped >&2; exit 1', qr/^250 /, 'dropped' ],
	[ 'proxsmtp: 421', 'reply stderr', 'echo 421 4.3.2 going down >&2; exit 1', qr/^421 4\.3\.2 going down\r\n/ ],
	[ 'proxsmtp: what it repeats of a message is no verdict', 'reply stderr', 'echo "Subject: <<250 drop it>>" >&2; echo 550 no >&2; exit 1', qr/^550 5\.\d\.\d no\r\n/ ],
	[ 'proxsmtp: words without a code are a failure', 'reply stderr', 'echo Traceback >&2; exit 1', $failed ],
	[ 'proxsmtp: unless the list says so', 'reply stderr; reject_codes 1-255', 'echo not here >&2; exit 1', qr/^550 5\.7\.1 not here\r\n/ ],
	[ 'proxsmtp: a code that cannot be is words', 'reply stderr', 'echo 999 x >&2; exit 1', $failed ],
);

my $proxy = proxy('', map { "command @{[ script($_->[2]) ]}; $_->[1]" } @verdicts);

for my $i (0 .. $#verdicts) {
	my ($name, undef, undef, $want, $is_dropped) = @{ $verdicts[$i] };
	my ($reply, $mail) = sent($proxy, $i);

	like($reply->raw, $want, $name);
	is(defined $mail, $reply == 250 && !$is_dropped, $reply == 250 && !$is_dropped ? '  delivered' : '  not delivered');
}
ok($proxy->wait_log(qr/^warn .* filter filter=f1 err="exit code 7 is in no list" on_failure=tempfail$/m), 'the log has the exit code');
ok($proxy->wait_log(qr/^warn .* filter filter=f12 err="signal 9" on_failure=tempfail$/m), 'or the signal');
ok($proxy->wait_log(qr/filter=f\d+ err="exit code 1 is in no list: secret" on_failure/m), 'and the last words of a program that failed');
is(scalar(glob $proxy->dir . '/spool/*'), undef, 'programs that take no file leave no trace in the spool');

# ---- what it is given ------------------------------------------------------------------------

my $tell = script('for a; do printf "[%s]" "$a"; done >' . $seen . '/args; env >' . $seen . '/env; cat >' . $seen
    . '/stdin; pwd >' . $seen . '/pwd; ls -l /proc/self/fd >' . $seen . '/fds; ulimit -a >' . $seen . '/limits');
my @words = (
	[ 'nothing', '', '' ],
	[ 'words as they stand', '"a b" c%%e $HOME *', '[a b][c%e][$HOME][*]' ],
	[ 'the sender', '-f %s x%sy', '[-f][ann@example.net][xann@example.nety]' ],
	[ 'the null sender', '%s -f%s', '[<>][-f<>]', from => '' ],
	[ 'the first recipient', '%r', '[r4@example.org]', to => [ 'r4@example.org', 'R4@example.org' ] ],
	[ 'the last one', '%r; one_recipient last', '[R5@example.org]', to => [ 'r5@example.org', 'R5@example.org' ] ],
	[ 'all of them', 'a %R b', '[a][r6@example.org][R6@example.org][b]', to => [ 'r6@example.org', 'R6@example.org' ] ],
	[ 'client, name and listener', '%a/%e/%l', '[127.0.0.1/client.example/front]' ],
	[ 'a sender that looks like an option', '%s -f%s', '[<-oQ/tmp@example.net>][-f-oQ/tmp@example.net]', from => '-oQ/tmp@example.net' ],
	[ 'a sender with a blank and a quote', '%s', '["a b\'$(id)"@example.net]', from => '"a b\'$(id)"@example.net' ],
	[ 'a path that looks like a pattern', '/usr/ "/a/b/"', '[/usr/][/a/b/]' ],
);
my $told = proxy('', map { "command $tell $_->[1]" } @words);

for my $i (0 .. $#words) {
	my ($name, undef, $want, %opt) = @{ $words[$i] };
	my ($reply) = sent($told, $i, from => 'ann@example.net', %opt);

	is($reply, 250, "$name: passes");
	is(read_file("$seen/args"), $want, '  its arguments');
}
ok((sent($told, 6, to => [ ("r6\@example.org", "R6\@example.org") x 300 ]))[0]->raw =~ /^451/, 'more recipients than arguments can be: a failure');

my %env = map { /^(\w+)=(.*)/ ? ($1 => $2) : () } split /\n/, read_file("$seen/env");
sent($told, 4, from => 'ann@example.net', to => [ 'r4@example.org', 'R4@example.org' ]);
my $env = read_file("$seen/env");
like($env, qr/^SENDER=ann\@example\.net$/m, 'the environment has the sender');
like($env, qr/^RECIPIENTS=r4\@example\.org\nR4\@example\.org$/m, 'the recipients');
like($env, qr/^CLIENT=127\.0\.0\.1$/m, 'the client');
like($env, qr/^REMOTE=127\.0\.0\.1$/m, 'as the remote one, too');
like($env, qr/^REMOTE_HELO=client\.example$/m, 'its name');
like($env, qr/^SERVER=.+$/m, 'ours');
like($env, qr/^TMPDIR=\/tmp$/m, 'a place for temporary files');
is(join(' ', sort map { /^(\w+)=/ } split /\n/, $env), 'CLIENT LANG PATH PWD RECIPIENTS REMOTE REMOTE_HELO SENDER SERVER TMPDIR', 'and nothing else');
is(read_file("$seen/stdin"), '', 'its standard input is empty');
is(read_file("$seen/pwd"), "/\n", 'it begins in /');
is(join(' ', map { /\s(\d+) ->/ } split /\n/, read_file("$seen/fds")) , '0 1 2 3', 'it has no descriptor of ours (3 is the list itself)');

my $set = proxy('', "command $tell; environment A=b \"B=%s to %r\" PATH=/bin LANG=de_DE.UTF-8",
	"command $tell; cpu 3s; file_size 1M; open_files 20; memory 1G; processes 500");
sent($set, 0, from => 'ann@example.net');
$env = read_file("$seen/env");
like($env, qr/^A=b\n/m, 'a variable of the administrator\'s');
like($env, qr/^B=ann\@example\.net to r0\@example\.org$/m, 'one with facts in it');
like($env, qr/^PATH=\/bin$/m, 'one that takes the place of a usual one');
unlike($env, qr/^PATH=.*^PATH=/ms, 'once');
sent($set, 1);
my $limits = read_file("$seen/limits");
like($limits, qr/^(?:time|cpu time).*\s3$/m, 'limits: processor time');
like($limits, qr/^(?:nofiles|open files).*\s20$/m, 'descriptors');
like($limits, qr/^(?:vmemory|virtual memory).*\s1048576$/m, 'memory');
like($limits, qr/^process.*\s500$/m, 'processes');

# ---- files -----------------------------------------------------------------------------------

subtest 'a file of the message' => sub {
	my $look = script("stat -c '%a %U %F' \"\$1\" >$seen/stat; stat -c '%a %F' \"\${1%/*}\" >>$seen/stat; cp \"\$1\" $seen/copy; env >$seen/env; pwd >$seen/pwd; mkdir -p a/b/c; echo x >a/b/c/d; ln -s / root; chmod 0 a; echo \"\$1\" >$seen/path");
	my $proxy = proxy('', "command $look %f");
	my $large = "Subject: large\r\n\r\n" . ('x' x 70 . "\r\n") x 20_000;

	is((sent($proxy, 0))[0], 250, 'it passes');
	is(read_file("$seen/copy"), $message, 'it has the message');
	my $path = read_file("$seen/path") =~ s/\n//r;
	my $folder = $path =~ s{/message\z}{}r;
	like($path, qr{^\Q@{[ $proxy->dir ]}\E/spool/programs\.\d+/\d+/message$}, 'in a folder of the spool');
	like(read_file("$seen/stat"), is_root() ? qr/\A600 nobody regular file\n700 directory\n/ : qr/\A600 \S+ regular file\n700 directory\n/, 'which is for the user alone');
	like(read_file("$seen/env"), qr/^EMAIL=\Q$path\E$/m, 'EMAIL says where');
	like(read_file("$seen/env"), qr/^TMPDIR=\Q$folder\E$/m, 'TMPDIR is that folder');
	like(read_file("$seen/pwd"), qr{/\d+\n}, 'and the program begins there');
	ok(is_spool_empty($proxy), 'all of it is removed, whatever the program made in it');
	is((sent($proxy, 0, content => $large))[0], 250, 'a large one');
	ok(read_file("$seen/copy") eq $large, 'is complete');
	$proxy->stop;
	is(scalar(glob $proxy->dir . '/spool/programs.*'), undef, 'and at the end the folder of folders is gone, too');
};

subtest 'what a crash leaves is swept' => sub {
	my $proxy = proxy('', "command @{[ script(qq{echo x >$seen/begun; exec sleep 100}) ]} %f");
	my $c = $proxy->client;

	$c->ehlo; $c->mail('a@example.net'); $c->rcpt('r0@example.org'); $c->data;
	$c->send("x\r\n.\r\n");
	ok((wait_until { -e "$seen/begun" }), 'a program is at work');
	ok(scalar(my @left = glob $proxy->dir . '/spool/programs.*/1/message'), 'its file is there');
	$proxy->kill_all('KILL');
	$proxy->restart;
	is(scalar(grep { !/\.@{[ join '|', $proxy->children ]}$/ } glob $proxy->dir . '/spool/programs.*'), 0, 'the next start removes it');
};

# ---- edits -----------------------------------------------------------------------------------

my $json = sub { return 'cat <<\\EOF' . "\n" . encode_json($_[0]) . "\nEOF" };
# name, options, script, content that passes or reply
my @edits = (
	[ 'a header line', '%h', 'echo "X-Seen: yes" >$1', $message =~ s/hello\r\n\K/X-Seen: yes\r\n/r ],
	[ 'several, one folded, with all line ends', '%h', 'printf "A:1\nB: 2\r\n 3\n\t4\r\nC: 5" >$1', $message =~ s/hello\r\n\K/A: 1\r\nB: 2\r\n 3\r\n\t4\r\nC: 5\r\n/r ],
	[ 'a header block with its end', '%h', 'printf "A: 1\nB: 2\n\n" >$1', $message =~ s/hello\r\n\K/A: 1\r\nB: 2\r\n/r ],
	[ 'something behind its end', '%h', 'printf "A: 1\n\nB: 2\n" >$1', $failed ],
	[ 'an empty file of header lines', '%h', ': >$1', $message ],
	[ 'none', '%h', ':', $message ],
	[ 'garbage for header lines', '%h', 'echo "no header" >$1', $failed ],
	[ 'control characters', '%h', 'printf "A: b\001c\n" >$1', $failed ],
	[ 'a Received line', '%h', 'echo "Received: from us" >$1', $failed ],
	[ 'too many header lines', '%h', 'yes "A: b" | head -c 200000 >$1', $failed ],
	[ 'a link to a file of others', '%h', 'ln -s /etc/passwd $1', $failed ],
	[ 'a fifo for header lines', '%h', 'mkfifo $1', $failed ],
	[ 'a new body', '%n', 'printf "new\n.body\n" >$1', $message =~ s/\.body/new\r\n.body/r ],
	[ 'an empty new body', '%n', ': >$1', $message =~ s/\.body\r\n//r ],
	[ 'no new body', '%n', ':', $message ],
	[ 'a new message', '%n; new message', 'printf "A: b\n\nc\n" >$1', "A: b\r\n\r\nc\r\n" ],
	[ 'an empty new message', '%n; new message', ': >$1', $failed ],
	[ 'a new body and header lines', '%n %h', 'echo new >$1; echo "A: b" >$2', "From: a\@b.example\r\nSubject: hello\r\nA: b\r\n\r\nnew\r\n" ],
	[ 'a new body that is too large', '%n; max_output 100K', 'head -c 200000 /dev/zero >$1', $failed ],
	[ 'what a program that refuses wrote does not matter', '%n %h; reject_codes 1', 'echo new >$1; echo garbage >$2; exit 1', $refused ],
	[ 'a pipe', '; pipe yes', 'tr a-z A-Z', uc $message ],
	[ 'a pipe that changes nothing', '; pipe yes', 'cat', $message ],
	[ 'a pipe that prints nothing', '; pipe yes', 'cat >/dev/null', $failed ],
	[ 'a pipe that does not read', '; pipe yes', 'printf "A: b\n\nc\n"', "A: b\r\n\r\nc\r\n" ],
	[ 'a pipe that prints and refuses', '; pipe yes; reject_codes 1', 'cat; echo 550 5.1.0 no >&2; exit 1', qr/^550 5\.1\.0 no\r\n/ ],
	[ 'a pipe that prints and fails', '; pipe yes', 'cat; exit 1', $failed ],
	[ 'a pipe that prints too much', '; pipe yes; max_output 100K', 'cat; head -c 200000 /dev/zero', $failed ],
	[ 'JSON: pass', '; output json', $json->({ verdict => 'pass' }), $message ],
	[ 'JSON: a refusal', '; output json', $json->({ verdict => 'reject', code => 554, status => '5.6.0', text => "no\nthing" }), qr/^554-5\.6\.0 no\r\n554 5\.6\.0 thing\r\n/ ],
	[ 'JSON: lines that are none', '; output json', $json->({ verdict => 'reject', text => "\r\n\n no\r\n250 ok\r\n\e\n" }), qr/^550-5\.7\.1  no\r\n550-5\.7\.1 250 ok\r\n550 5\.7\.1 ? ?\r\n/ ],
	[ 'JSON: later', '; output json', $json->({ verdict => 'tempfail', text => 'wait' }), qr/^451 4\.7\.1 wait\r\n/ ],
	[ 'JSON: fields', '; output json', $json->({ verdict => 'pass', headers => [ { add => 'A', value => '1' }, { insert => 'B', value => "2\n 3", index => 0 },
			{ change => 'subject', value => 'changed' }, { delete => 'From' } ] }), "B: 2\r\n 3\r\nSubject: changed\r\nA: 1\r\n\r\n.body\r\n" ],
	[ 'JSON with the message on standard input', '; output json; pipe yes', 'read line; echo "{\"verdict\":\"reject\",\"text\":\"${line%?}\"}"', qr/^550 5\.7\.1 From: a\@b\.example\r\n/ ],
	[ 'JSON and a new body', '%n; output json', 'echo new >$1; echo "{\"verdict\":\"pass\"}"', $message =~ s/\.body/new/r ],
	[ 'JSON: fields of a new message', '%n; output json; new message', 'printf "Subject: new\n\nc\n" >$1' . "\n" . $json->({ verdict => 'pass',
			headers => [ { add => 'X-Seen', value => 'yes' }, { change => 'Subject', value => 'newer' } ] }), "Subject: newer\r\nX-Seen: yes\r\n\r\nc\r\n" ],
	[ 'JSON, a new message and header lines, which come last', '%n %h; output json; new message', 'printf "A: b\n\nc\n" >$1; echo "X-Last: 2" >$2' . "\n"
			. $json->({ verdict => 'accept', headers => [ { add => 'X-First', value => '1' } ] }), "A: b\r\nX-First: 1\r\nX-Last: 2\r\n\r\nc\r\n" ],
	[ 'JSON: nothing', '; output json', ':', $failed ],
	[ 'JSON: garbage', '; output json', 'echo hello', $failed ],
	[ 'JSON: half', '; output json', 'echo "{\"verdict\":\"pass\""', $failed ],
	[ 'JSON: something behind it', '; output json', 'echo "{\"verdict\":\"pass\"} x"', $failed ],
	[ 'JSON: no verdict', '; output json', $json->({ text => 'x' }), $failed ],
	[ 'JSON: a slip of the pen', '; output json', $json->({ verdict => 'pass', header => [] }), $failed ],
	[ 'JSON: a code that does not fit', '; output json', $json->({ verdict => 'reject', code => 450 }), $failed ],
	[ 'JSON: a header injection', '; output json', $json->({ verdict => 'pass', headers => [ { add => 'A', value => "1\r\nB: 2" } ] }), $failed ],
	[ 'JSON: too long', '; output json', 'printf "{\"verdict\":\"pass\",\"text\":\"%0100000d\"}" 1', $failed ],
	[ 'JSON counts only with exit code 0', '; output json; reject_codes 1', 'echo "{\"verdict\":\"pass\"}"; exit 1', $refused ],
);
my $edits = proxy('', map { "command @{[ script($_->[2]) ]} $_->[1]" } @edits);

for my $i (0 .. $#edits) {
	my ($name, undef, undef, $want) = @{ $edits[$i] };
	my ($reply, $mail) = sent($edits, $i);

	if (ref $want) {
		like($reply->raw, $want, $name);
		ok(!defined $mail, '  not delivered');
	} else {
		is(defined $mail ? $mail->{content} : $reply->raw, $want, $name);
	}
}
ok(is_spool_empty($edits), 'no file remains');

subtest 'JSON: the envelope' => sub {
	my $proxy = proxy('', "output json; command @{[ script($json->({ verdict => 'pass', sender => 'new@example.net',
		add_recipients => [ 'x@example.org' ], remove_recipients => [ 'r0@example.org' ] })) ]}",
		"output json; command @{[ script($json->({ verdict => 'pass', sender => '' })) ]}",
		"output json; command @{[ script($json->({ verdict => 'pass', add_recipients => [ 'a b@example.org' ] })) ]}");
	my ($reply, $mail) = sent($proxy, 0);

	is($reply, 250, 'another sender and recipient');
	like($mail->{mail}, qr/^FROM:<new\@example\.net>(?: SIZE=\d+)?$/, 'the sender');
	is(join(' ', @{ $mail->{rcpt} }), 'TO:<x@example.org>', 'the recipients');
	(undef, $mail) = sent($proxy, 1);
	like($mail->{mail}, qr/^FROM:<>/, 'the null sender');
	like((sent($proxy, 2))[0]->raw, $failed, 'what is no address');
};

subtest 'quarantine' => sub {
	my $proxy = proxy('quarantine { directory %d/q }', "command @{[ script('echo 550 5.7.1 looks odd; exit 3') ]}; quarantine_codes 3",
		"output json; command @{[ script($json->({ verdict => 'quarantine', text => 'looks odd', headers => [ { add => 'X-Odd', value => 'yes' } ] })) ]}");

	for my $i (0, 1) {
		my ($reply, $mail) = sent($proxy, $i);
		my @entries = grep { !m{/tmp$} } glob $proxy->dir . '/q/*';

		is($reply, 250, 'the client hears that it was taken');
		is($mail, undef, 'it is not delivered');
		is(scalar @entries, $i + 1, 'but set aside');
		like(read_file("$entries[-1]/metadata.json"), qr/looks odd/, 'with the program\'s reason');
		is(read_file("$entries[-1]/message"), $i ? $message =~ s/hello\r\n\K/X-Odd: yes\r\n/r : $message, 'as it was edited');
	}
};

subtest 'a large message through a pipe' => sub {
	my $proxy = proxy('', "command @{[ script('cat') ]}; pipe yes", "command @{[ script('exec 0<&-; sleep 0.1; echo; echo small') ]}; pipe yes");
	my $large = "Subject: large\r\n\r\n" . ('.' . 'x' x 70 . "\r\n") x 30_000;
	my ($reply, $mail) = sent($proxy, 0, content => $large);

	is($reply, 250, 'it passes');
	ok(defined $mail && $mail->{content} eq $large, 'complete');
	($reply, $mail) = sent($proxy, 1, content => $large);
	is($mail->{content}, "\r\nsmall\r\n", 'one that closes its input at once is in nobody\'s way');
};

# No beginning of it is in the log either.
subtest 'a program runs only when those before it have let the message through' => sub {
	my $mark = "$seen/mark";
	my @ends = ([ 'reject_codes 1', 550, 'reject' ], [ 'accept_codes 1', 250, 'accept' ], [ 'discard_codes 1', 250, 'discard' ],
		[ 'tempfail_codes 1', 451, 'tempfail' ]);
	my $proxy = proxy(join '', map { my $s = $_ % 2 ? 'shadow yes' : ''; my ($codes) = @{ $ends[$_] };
		"exec first$_ { command @{[ script('exit 1') ]}; $codes }\nexec second$_ { command /bin/touch $mark; $s }\n"
		    . "rule { recipient e$_\@example.org; chain first$_ second$_ }\n" } 0 .. $#ends);

	for my $i (0 .. $#ends) {
		my (undef, $want, $word) = @{ $ends[$i] };

		is($proxy->client->send_message(to => "e$i\@example.org", content => $message), $want, "the first says $word");
		like($proxy->wait_summary($i + 1)->{filters}, qr{^first$i:$word/\d+ms$}, 'the second is not begun');
		ok(!-e $mark, 'and has done nothing');
	}
};

subtest 'later filters see what earlier ones did' => sub {
	my $upper = script('tr a-z A-Z');
	my $proxy = proxy("exec up { command $upper; pipe yes }\nexec look { command @{[ script(qq{cp \$1 $seen/later}) ]} %f }\n"
		. "rule { recipient both\@example.org; chain up look }");

	is($proxy->client->send_message(to => 'both@example.org', content => $message), 250, 'it passes');
	is(read_file("$seen/later"), uc $message, 'the second has the first one\'s message');
};

# The recipients that come are a and b, at a domain D of the rule.
subtest 'later filters see the envelope as earlier ones left it' => sub {
	my $look = script("{ printf '%s|' \"\$@\"; printf '%s|' \"\$SENDER\"; echo \$RECIPIENTS; } >$seen/envelope");
	# name, what address does, sender, first, last, and all of them
	my @cases = (
		[ 'nothing is changed', 'recipient x@example.org; remove yes', 'ann@example.net', 'a@D', 'b@D', 'a@D b@D' ],
		[ 'another sender', 'set_sender new@example.net', 'new@example.net', 'a@D', 'b@D', 'a@D b@D' ],
		[ 'the null sender', 'set_sender <>', '', 'a@D', 'b@D', 'a@D b@D' ],
		[ 'the first is redirected', 'recipient /^a@/; redirect y@example.org', 'ann@example.net', 'b@D', 'y@example.org', 'b@D y@example.org' ],
		[ 'the last is removed', 'recipient /^b@/; remove yes', 'ann@example.net', 'a@D', 'a@D', 'a@D' ],
		[ 'one is added', 'add_recipient w@example.org', 'ann@example.net', 'a@D', 'w@example.org', 'a@D b@D w@example.org' ],
		[ 'nobody is left', 'remove yes', 'ann@example.net', '', '', '' ],
	);
	my $proxy = proxy(join '', map { "address move$_ { $cases[$_][1]; external yes }\n"
		    . "exec first$_ { command $look %s %r %R }\nexec last$_ { command $look %s %r %R; one_recipient last }\n"
		    . "rule { sender \@example.net; recipient \@f$_.example; chain move$_ first$_ }\nrule { recipient \@l$_.example; chain move$_ last$_ }\n" }
		0 .. $#cases);

	for my $i (0 .. $#cases) {
		my ($name, undef, $sender, $first, $last, $all) = @{ $cases[$i] };

		for my $which ([ "f$i.example", $first ], [ "l$i.example", $last ]) {
			my ($domain, $one) = @$which;
			my $want = join('|', $sender || '<>', $one, split(' ', $all), $sender, $all) =~ s/\@D/\@$domain/gr;

			is($proxy->client->send_message(from => 'ann@example.net', to => [ "a\@$domain", "b\@$domain" ], content => $message), 250, $name);
			is(read_file("$seen/envelope"), "$want\n", "  and what the program is told, at $domain");
		}
	}
};

done_testing;
