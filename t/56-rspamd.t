#!/usr/bin/perl
# The filter rspamd: a real one, and one that does what a script says, right and wrong.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use FakeService;
use Rspamd;
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
listener front { listen 127.0.0.1:0; backend inner; envelope late }
listener early { listen 127.0.0.1:0; backend inner }
listener plain { listen 127.0.0.1:0; backend inner; envelope late; received no }
backend inner { hosts @{[ $sink->addr ]} }
$conf
CONF
}

# The reply, and what the back-end got (undef when it got nothing).
sub send_to
{
	my ($proxy, $listener, %message) = @_;

	$sink->new_txns;
	my $reply = $proxy->client($listener)->send_message(%message);
	my ($got) = grep { $_->{ended} eq 'accepted' } $sink->new_txns;
	return ($reply->raw =~ s/\r\n\z//r, $got);
}

# ---- a fake: what it is told, and what it says -----------------------------------------------

my %answers;	# recipient => octets, or a sub that is called with the connection and the request

sub http { my ($body, @fields) = @_; return join "\r\n", 'HTTP/1.1 200 OK', 'Content-Length: ' . length $body, @fields, '', $body }

sub json { return http('{"action":"no action"' . join('', map { ",$_" } @_) . '}') }

sub chunked { return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" . join '', map { sprintf "%x\r\n%s\r\n", length, $_ } @_, '' }

# Reads the head, notes it, and asks the recipient's script what to do.
sub script
{
	my ($c) = @_;
	my $head = $c->read_to("\r\n\r\n") // return;
	my ($who) = $head =~ /^Rcpt: <(.*?)@/m;
	my ($length) = $head =~ /^Content-Length: (\d+)/m;
	my $answer = $answers{$who};

	$c->note($head);
	return $answer->($c, $length) if ref $answer;
	$c->note($c->read($length));
	$c->send($answer);
	$c->fill;	# until the other side has it all, and closes
	return;
}

%answers = (
	pass => json(),
	chunks => chunked(map { "$_" } split /(?=,)|(?<=:)/, '{"score":1.5,"action":"add header"}'),
	utf8 => json('"milter":{"add_headers":{"X-Sym":"' . "\xff\xfe" . '"}}'),
	skipped => http('{"is_skipped":true,"action":"no action"}'),
	huge => http('{"action":"no action","symbols":{"' . 'x' x 1_000_000 . '":{}}}'),
	body => http('{"action":"no action"}' . "new\nbody\r\n.dot", 'Message-Offset: 22'),
	empty => http('{"action":"no action"}', 'Message-Offset: 22'),
	large => http('{"action":"no action"}' . 'line of new text' x 5 . "\r\n" x 2 . ("\.line\r\n" x 30_000), 'Message-Offset: 22'),
	refused_body => http('{"action":"reject"}' . "new body\r\n", 'Message-Offset: 19'),
	envelope => json('"milter":{"change_from":"new@example.net","add_rcpt":["more@example.org"],"del_rcpt":["gone@example.org"]}'),
	drip => sub { my ($c, $n) = @_; $c->read($n); $c->drip(json(), 0.002); return },
);
my $fake = FakeService->start(\&script);

my $proxy = proxy(<<"CONF");
rspamd spam { socket @{[ $fake->addr ]}; settings_id in; mta_name mx.example.org }
default_chain spam
CONF
my $mail = "Received: from a by b id Q1; Tue, 24 Nov 2026 16:00:00 +0000\r\nX-Spam: Yes\r\nSubject: x\r\n\r\nbody\r\n";

subtest 'what it is told' => sub {
	my ($reply, $got) = send_to($proxy, 'plain', from => 'ann@example.net', to => ['pass@example.org', 'two@example.org'], content => $mail);
	my ($head, $body) = map { s/\\x0d\\x0a/\n/gr } $fake->notes;

	like($reply, qr/^250 /, 'no action lets a message pass');
	is($got->{content}, $mail =~ s/X-Spam: Yes\r\n//r, 'as it was, but for a mark of ours that came with it');
	is($body =~ s/\n/\r\n/gr, $got->{content}, 'rspamd has seen just this');
	is($head =~ s/^(?:Log-Tag|Helo|Host): \K.*/x/mgr, <<"HEAD" =~ s/\n\z//r, 'and was told of client and envelope');
POST /checkv2 HTTP/1.1
Host: x
Connection: close
IP: 127.0.0.1
Helo: x
From: <ann\@example.net>
Rcpt: <pass\@example.org>
Rcpt: <two\@example.org>
Queue-Id: Q1
Log-Tag: x
MTA-Name: mx.example.org
Settings-ID: in
Flags: milter,body_block
Content-Length: @{[ length $got->{content} ]}
HEAD
};

subtest 'what it is told behind a filter that changes the envelope' => sub {
	my $proxy = proxy(<<"CONF");
address move { recipient old\@example.org; redirect pass\@example.org; set_sender new\@example.net; external yes }
rspamd spam { socket @{[ $fake->addr ]} }
default_chain move spam
CONF
	my ($reply) = send_to($proxy, 'plain', from => 'ann@example.net', to => 'old@example.org', content => $mail);
	my ($head) = map { s/\\x0d\\x0a/\n/gr } ($fake->notes)[-2];

	like($reply, qr/^250 /, 'it passes');
	is(join(' ', $head =~ /^((?:From|Rcpt|Deliver-To): .*)$/mg), 'From: <new@example.net> Rcpt: <pass@example.org> Deliver-To: pass@example.org',
		'sender and recipient are those that are left');
};

subtest 'a sender of its own takes up no wish of one that is gone' => sub {
	my @ann = (from => 'ann@example.net', mail_params => 'RET=HDRS ENVID=old', content => $mail);
	my $from = sub {
		my ($proxy) = @_;
		my (undef, $got) = send_to($proxy, 'plain', @ann, to => 'envelope@example.org');
		return $got->{mail} =~ s/ SIZE=\d+//r;
	};
	my $spam = "rspamd spam { socket @{[ $fake->addr ]} }\n";

	is($from->(proxy("${spam}default_chain spam")), 'FROM:<new@example.net> RET=HDRS ENVID=old', 'those of the one before stay');
	is($from->(proxy("address move { set_sender other\@example.net }\n${spam}default_chain move spam")), 'FROM:<new@example.net>',
		'unless a filter in between has dropped them');
};

subtest 'what it may say' => sub {
	my ($reply, $got) = send_to($proxy, 'plain', to => 'chunks@example.org', content => $mail);
	is($got->{content}, $mail =~ s/X-Spam: Yes\r\n(.*\r\n)/$1X-Spam: Yes\r\n/r, 'an answer may come in chunks');
	ok($proxy->wait_log(qr/^info .* score filter=spam action="add header" score=1\.50$/m), 'action and score are in the log');
	($reply, $got) = send_to($proxy, 'plain', to => 'drip@example.org', content => $mail);
	like($reply, qr/^250 /, 'or octet by octet');
	($reply, $got) = send_to($proxy, 'plain', to => 'utf8@example.org', content => "A: 1\r\n\r\n");
	is($got->{content}, "A: 1\r\nX-Sym: ??\r\n\r\n", 'octets that are no UTF-8 do not make it unreadable');
	($reply, $got) = send_to($proxy, 'plain', to => 'skipped@example.org', content => $mail);
	like($reply, qr/^250 /, 'a message that it skips passes');
	($reply, $got) = send_to($proxy, 'plain', to => 'huge@example.org', content => $mail);
	like($reply, qr/^250 /, 'an answer of nearly 1 MiB is read');
};

subtest 'a rewritten message' => sub {
	my $content = "A: 1\r\n\r\nold\r\n";
	my ($reply, $got) = send_to($proxy, 'plain', to => 'body@example.org', content => $content);

	is($got->{content}, "A: 1\r\n\r\nnew\r\nbody\r\n.dot\r\n", 'takes the place of the body, with whole lines');
	($reply, $got) = send_to($proxy, 'plain', to => 'empty@example.org', content => $content);
	is($got->{content}, "A: 1\r\n\r\n", 'also an empty one');
	($reply, $got) = send_to($proxy, 'early', to => 'large@example.org', content => $content);
	ok($got->{content} =~ /\r\nA: 1\r\n\r\n\Q${\('line of new text' x 5)}\E\r\n\r\n((?:\.line\r\n)*)\z/ && length $1 == 7 * 30_000,
		'and one that does not stay in memory');
	($reply, $got) = send_to($proxy, 'plain', to => 'refused_body@example.org', content => $content);
	like($reply, qr/^554 5\.7\.1 /, 'it does not count when the message is rejected');
	is($got, undef, 'which is then not delivered');
};

subtest 'another envelope' => sub {
	my ($reply, $got) = send_to($proxy, 'plain', to => ['envelope@example.org', 'gone@example.org'], content => "A: 1\r\n\r\n");

	like($reply, qr/^250 /, 'is taken');
	my @heard = map { /<(.*?)>/ } $got->{mail}, sort @{ $got->{rcpt} };
	is("@heard", 'new@example.net envelope@example.org more@example.org', 'and is what the back-end hears');
};

subtest 'a large message' => sub {
	my $lines = join '', map { "line $_ " . 'x' x 60 . "\r\n" } 1 .. 10_000;

	$answers{sum} = sub {
		my ($c, $n) = @_;
		my $octets = $c->read($n);

		$c->note(length($octets) . ' ' . ($octets eq "A: 1\r\n\r\n$lines" ? 'same' : 'other'));
		$c->send(json());
		$c->fill;
	};
	$fake->restart(\&script);
	my ($reply, $got) = send_to($proxy, 'plain', to => 'sum@example.org', content => "A: 1\r\n\r\n$lines");
	like($reply, qr/^250 /, 'passes');
	like(($fake->notes)[-1], qr/^\d{6} same$/, 'from the spool file to rspamd as it is');
};

# ---- a fake that does wrong ------------------------------------------------------------------

my %wrong = (
	# name => [ what the fake does behind the head of the request, what the log says ]
	silent => [ sub { $_[0]->hold }, qr/no answer within \d+ ms/ ],
	'takes all and is silent' => [ sub { $_[0]->read($_[1]); $_[0]->hold }, qr/no answer within \d+ ms/ ],
	'closes at once' => [ sub { $_[0]->read($_[1]) }, qr/it closed the connection without an answer/ ],
	'closes within the head' => [ sub { $_[0]->reset }, qr/it closed the connection without an answer|connection reset by peer|broken pipe/ ],
	'answers before it has the message' => [ sub { $_[0]->send(json()); $_[0]->hold }, qr/it answered 200 OK before it had the whole request/, 1_000_000 ],
	'answers half a head' => [ say_and_close("HTTP/1.1 200 OK\r\nContent-Le"), qr/it closed the connection without an answer/ ],
	'answers half a head and waits' => [ say_and_hold("HTTP/1.1 200 OK\r\nContent-Le"), qr/no answer within/ ],
	'answers half a body' => [ say_and_close(substr json(), 0, -1), qr/it closed the connection within its answer/ ],
	'answers half a body and waits' => [ say_and_hold(substr json(), 0, -1), qr/no answer within/ ],
	'says a length that is too short' => [ say_and_close("HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{\"action\":\"no action\"}"), qr/its answer is no JSON/ ],
	'says a length that is too long' => [ say_and_close("HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n{\"action\":\"no action\"}"), qr/it closed the connection within its answer/ ],
	'says no length' => [ say_and_close("HTTP/1.1 200 OK\r\n\r\n{\"action\":\"no action\"}"), qr/its answer has no length/ ],
	'says two lengths' => [ say_and_close(json() =~ s/\r\n\r\n/\r\nTransfer-Encoding: chunked\r\n\r\n/r), qr/its answer has a Content-Length and is chunked/ ],
	'sends a chunk that is none' => [ say_and_close(chunked('{"action":"no action"}') =~ s/\r\n16\r\n/\r\n15\r\n/r), qr/its answer has a wrong chunk/ ],
	'cuts the last chunk off' => [ say_and_close(substr chunked('{"action":"no action"}'), 0, -5), qr/it closed the connection within its answer/ ],
	'speaks something else' => [ say_and_close("220 mx ESMTP\r\n"), qr/its answer is no HTTP/ ],
	'sends garbage' => [ say_and_close(join '', map { chr($_ * 7 % 256) } 1 .. 5000), qr/its answer/ ],
	'sends an endless head' => [ sub { $_[0]->read($_[1]); $_[0]->send("HTTP/1.1 200 OK\r\n"); $_[0]->flood("A: b\r\n" x 100) }, qr/its answer has a head of more than/ ],
	'sends an endless body' => [ sub { $_[0]->read($_[1]); $_[0]->send("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n{"); $_[0]->flood(' ' x 10_000) }, qr/its answer is longer than/ ],
	'has an error' => [ say_and_close("HTTP/1.1 500 Cannot scan\r\nContent-Length: 0\r\n\r\n"), qr/it answered 500 Cannot scan/ ],
	'sends another page' => [ say_and_close("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"), qr/it answered 302 Found/ ],
	'has nothing to say' => [ say_and_close("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), qr/its answer is no JSON/ ],
	'says what is no JSON' => [ say_and_close(http('<html>no action</html>')), qr/its answer is no JSON/ ],
	'says an error in JSON' => [ say_and_close(http('{"error":"scanner is gone"}')), qr/it says: scanner is gone/ ],
	'says no action at all' => [ say_and_close(http('{"score":1.0,"symbols":{}}')), qr/its answer has no action that is known/ ],
	'says an action that nobody knows' => [ say_and_close(http('{"action":"probably fine"}')), qr/its answer has no action that is known/ ],
	'says two actions' => [ say_and_close(http('{"action":"reject","action":"no action"}')), qr/its answer is no JSON: duplicate/ ],
	'says edits that cannot be' => [ say_and_close(json('"milter":{"add_rcpt":["a b"]}')), qr/its answer has an address that is none/ ],
	'says an offset behind its end' => [ say_and_close(http('{"action":"no action"}', 'Message-Offset: 23')), qr/its answer ends before its Message-Offset/ ],
	'says an offset that is none' => [ say_and_close(http('{"action":"no action"}', 'Message-Offset: -1')), qr/its answer has a Message-Offset that cannot be/ ],
	'says two offsets' => [ say_and_close(http('{"action":"no action"}', 'Message-Offset: 22', 'Message-Offset: 22')), qr/its answer has two Message-Offsets/ ],
	'sends a rewritten message that is too large' => [ say_and_close(http('{"action":"no action"}' . 'x' x 2000, 'Message-Offset: 22')), qr/the new content is larger than 1024 octets/ ],
);

sub say_and_close
{
	my ($octets) = @_;

	return sub { my ($c, $n) = @_; $c->read($n); $c->send($octets) };
}

sub say_and_hold
{
	my ($octets) = @_;

	return sub { my ($c, $n) = @_; $c->read($n); $c->send($octets); $c->hold };
}

# on_failure => what the client hears
my %heard = (
	tempfail => qr/^451 4\.3\.0 /,
	reject => qr/^554 5\.3\.0 /,
	pass => qr/^250 /,
	disconnect => qr/^421 4\.3\.0 /,
	quarantine => qr/^250 /,
);
my @names = sort keys %wrong;
%answers = (map { ("w$_" => $wrong{ $names[$_] }[0]) } 0 .. $#names);
my $place = temp_dir();	# Unix sockets hold little, so that a message soon gets stuck
$fake = FakeService->start(\&script, address => "unix:$place/fake");
my $deaf = FakeService->start(sub { $_[0]->deaf(30 * $TestUtil::PATIENCE) }, address => "unix:$place/deaf");

# A filter for each fault, so that each has its own line in the log at once. Only those that wait in vain are
# impatient.
sub failing
{
	my ($how) = @_;
	my %services = ((map { ("w$_" => $fake->addr) } 0 .. $#names), gone => '127.0.0.1:' . free_port(), deaf => $deaf->addr);

	my $conf = "default_chain none\n" . ($how eq 'quarantine' ? "quarantine { directory %d/q }\n" : '');

	for my $name (sort keys %services) {
		my $waits = $name eq 'deaf' || ($name =~ /^w(\d+)$/ && $names[$1] =~ /silent|waits/);
		my $timeout = ($waits ? 100 : 10_000) * $TestUtil::PATIENCE;

		$conf .= "rspamd $name { socket $services{$name}; timeout ${timeout}ms; on_failure $how; max_rewrite 1K }\n"
		    . "rule { recipient $name\@fake.example; chain $name }\n";
	}
	return proxy($conf);
}

sub fails
{
	my ($p, $how, $filter, $name, $want, $size) = @_;
	my ($reply, $got) = send_to($p, 'front', to => "$filter\@fake.example", content => "A: 1\r\n\r\n" . ('x' x 70 . "\r\n") x (($size // 70) / 70));

	like($reply, $heard{$how}, "$how: one that $name");
	is(defined $got ? 1 : 0, $how eq 'pass' ? 1 : 0, $how eq 'pass' ? 'the message is delivered, as told' : 'the message is not delivered');
	return unless defined $want;
	my $told = wait_until { $p->log =~ / filter filter=$filter err=("(?:[^"\\]|\\.)*"|\S+) on_failure=$how/ && $1 };
	like($told, $want, 'the log says why');
	return;
}

# Open descriptors of monitor, engine and spawner.
sub descriptors { my ($p) = @_; return scalar map { glob "/proc/$_/fd/*" } $p->pid, $p->children }

for my $how (qw(tempfail reject pass disconnect quarantine)) {
	my $p = failing($how);
	my $open = descriptors($p);

	subtest "on_failure $how" => sub {
		for my $i (0 .. $#names) {
			my (undef, $want, $size) = @{ $wrong{ $names[$i] } };
			fails($p, $how, "w$i", $names[$i], $how eq 'tempfail' ? $want : undef, $size);
		}
		fails($p, $how, 'gone', 'is not there', $how eq 'tempfail' ? qr/connection refused/ : undef);
		fails($p, $how, 'deaf', 'reads nothing', $how eq 'tempfail' ? qr/no answer within/ : undef, 1_000_000);
		ok((wait_until { descriptors($p) <= $open + ($how ne 'tempfail') }), 'and no connection or file is left open');
	};
}

subtest 'who goes away meanwhile' => sub {
	my $p = proxy("rspamd f { socket @{[ $fake->addr ]}; timeout 20s }\ndefault_chain none\nrule { recipient /\@fake/; chain f }\n");
	my $c = $p->client('front');
	my ($held) = grep { $names[$_] eq 'takes all and is silent' } 0 .. $#names;
	my $before = $fake->count;

	$c->ehlo;
	$c->mail('a@b.example');
	$c->rcpt("w$held\@fake.example");
	$c->data;
	$c->send("A: 1\r\n\r\nx\r\n.\r\n");
	ok((wait_until { $fake->count > $before }), 'while rspamd is asked');
	$c->reset;
	ok($p->wait_summary(1), 'is noticed');
	like((send_to($p, 'front', to => 'a@elsewhere.example', content => "A: 1\r\n\r\n"))[0], qr/^250 /, 'and the next message passes');
};

# ---- the real one ----------------------------------------------------------------------------

subtest 'rspamd itself' => sub {
	Rspamd->find or plan skip_all => 'rspamd is not installed';
	my $rspamd = Rspamd->start(<<'LUA');
rspamd_config.TEST_SCORE = { score = 1.0, callback = function(task)
  local s = task:get_header('X-Score')
  return s ~= nil, tonumber(s or 0)
end }
rspamd_config.TEST_ASKED = { score = 0.0, callback = function(task)
  if task:get_header('X-Milter') then
    task:set_milter_reply({
      remove_headers = { ['X-Gone'] = 0, ['X-Last'] = -1 },
      add_headers = { ['X-One'] = 'a', ['X-Many'] = { { value = '0', order = 0 }, { value = '2', order = 2 }, { value = '3', order = 3 } } },
    })
  end
  if task:get_header('X-Body') then
    task:set_message('From: x@y.example\r\n\r\nNew body\r\n')
  end
  if task:get_header('X-Tell') then
    local rcpts = {}
    for _, r in ipairs(task:get_recipients('smtp')) do table.insert(rcpts, r.addr) end
    task:set_milter_reply({ add_headers = { ['X-Told'] = string.format('%s %s %s %s %s', task:get_from_ip(), task:get_helo(),
      task:get_from('smtp')[1].addr, table.concat(rcpts, ','), task:get_queue_id()) } })
  end
  local action = task:get_header('X-Action')
  if action then task:set_pre_result(action, 'says the rule') end
end }
LUA
	my $p = proxy(<<"CONF");
rspamd spam { socket @{[ $rspamd->addr ]} }
rspamd local { socket @{[ $rspamd->unix ]}; report yes; reject_action rewrite_subject; subject_tag "[junk]" }
rspamd whole { socket @{[ $rspamd->addr ]}; rewrite message }
quarantine { directory %d/q }
rspamd soft { socket @{[ $rspamd->addr ]}; greylist_action tempfail; add_header_action discard; discard_action reject }
default_chain spam
rule { recipient local\@example.org; chain local }
rule { recipient whole\@example.org; chain whole }
rule { recipient soft\@example.org; chain soft }
CONF
	my $base = "From: a\@b.example\r\nMessage-Id: <1\@b.example>\r\nSubject: hello\r\n";
	my @cases = (
		# name, recipient, header, reply, header that was delivered
		[ 'ham', 'ann', '', qr/^250 /, $base ],
		[ 'greylist', 'ann', "X-Score: 5\r\n", qr/^250 /, "${base}X-Score: 5\r\n" ],
		[ 'add header', 'ann', "X-Score: 7\r\n", qr/^250 /, "${base}X-Score: 7\r\nX-Spam: Yes\r\n" ],
		[ 'rewrite subject', 'ann', "X-Score: 9\r\n", qr/^250 /, $base =~ s/hello/*** hello/r . "X-Score: 9\r\n" ],
		[ 'reject', 'ann', "X-Score: 20\r\n", qr/^554 5\.7\.1 this message looks like spam$/, undef ],
		[ 'GTUBE', 'ann', '', qr/^554 5\.7\.1 Gtube pattern$/, undef, 'XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X' ],
		[ 'soft reject', 'ann', "X-Action: soft reject\r\n", qr/^451 4\.7\.1 says the rule$/, undef ],
		[ 'discard', 'ann', "X-Action: discard\r\n", qr/^250 2\.0\.0 Ok: discarded$/, undef ],
		[ 'the milter block', 'ann', "X-Gone: 1\r\nX-Gone: 2\r\nX-Last: 1\r\nX-Last: 2\r\nX-Milter: 1\r\n", qr/^250 /,
			"X-Many: 0\r\n" . $base =~ s/\r\n\K/X-Many: 2\r\nX-Many: 3\r\n/r . "X-Last: 1\r\nX-Milter: 1\r\nX-One: a\r\n" ],
		[ 'what it knows', 'ann', "X-Tell: 1\r\n", qr/^250 /,
			"${base}X-Tell: 1\r\nX-Told: 127.0.0.1 client.example sender\@example.net ann\@example.org ID\r\n" ],
		[ 'by a Unix socket, with a report', 'local', "X-Score: 20\r\n", qr/^250 /,
			$base =~ s/hello/[junk] hello/r . "X-Score: 20\r\nX-Spam-Status: Yes, score=20.00 required=100.00 action=\"reject\"\r\nX-Rspamd-Score: 20.00\r\n" ],
		[ 'greylist as tempfail', 'soft', "X-Score: 5\r\n", qr/^451 4\.7\.1 /, undef ],
		[ 'add header as discard', 'soft', "X-Score: 7\r\n", qr/^250 2\.0\.0 Ok: discarded$/, undef ],
		[ 'quarantine', 'ann', "X-Action: quarantine\r\n", qr/^250 2\.0\.0 Ok: queued as/, undef ],
		[ 'discard as reject', 'soft', "X-Action: discard\r\n", qr/^554 5\.7\.1 says the rule$/, undef ],
	);
	for my $case (@cases) {
		my ($name, $to, $header, $want, $head, $body) = @$case;
		my ($reply, $got) = send_to($p, 'plain', to => "$to\@example.org", content => "$base$header\r\n" . ($body // 'body') . "\r\n");

		like($reply, $want, "$name: the reply");
		my $content = defined $got ? $got->{content} =~ s/^X-Told: .*\K [0-9a-f]+-\d+$/ ID/mr =~ s/ [0-9a-f]{6}-\d+\r\n/ ID\r\n/r : undef;
		is($content, defined $head ? "$head\r\nbody\r\n" : undef, "$name: what is delivered");
	}
	my (undef, $got) = send_to($p, 'front', to => 'ann@example.org', content => "${base}X-Body: 1\r\n\r\nold\r\n");
	is($got->{content} =~ s/\AReceived: (?:.*\r\n\s)*.*\r\n//r, "${base}X-Body: 1\r\n\r\nNew body\r\n", 'a rewritten body');
	(undef, $got) = send_to($p, 'front', to => 'whole@example.org', content => "${base}X-Body: 1\r\n\r\nold\r\n");
	is($got->{content} =~ s/\AReceived: (?:.*\r\n\s)*.*\r\n//r, "From: x\@y.example\r\n\r\nNew body\r\n", 'a rewritten message');
	like($got->{content}, qr/\AReceived: /, 'below our own Received line');
	ok($p->wait_log(qr/ score filter=spam action=reject score=20\.00 required=100\.00 symbols=TEST_SCORE:20\.00$/m), 'scores and symbols are in the log');
	my ($kept) = glob $p->dir . '/q/*/metadata.json';
	like(read_file($kept // '/'), qr/"rspamd: quarantine, score /, 'what it quarantines is kept with the reason');
	my ($id) = $p->log =~ / s=(\w+) t=1 score .*action=reject/;
	like($rspamd->log, qr/\Q$id\E-1/, 'and ours is the tag in its log');
};

# ---- configuration ---------------------------------------------------------------------------

my $dir = temp_dir();

sub said
{
	my ($options) = @_;
	my $file = "$dir/p";

	write_file($file, "listener front { listen 127.0.0.1:10025; backend inner }\nbackend inner { discard yes }\n"
		. "rspamd f { $options }\ndefault_chain f\n");
	my $out = `'@{[ $proxy->program ]}' -T -c '$file' 2>&1 >/dev/null </dev/null`;
	return $out =~ s/^\Q$file\E:3:\d+: (?:rspamd f: )?//r =~ s/\n\z//r;
}

my @mistakes = (
	[ '', '' ],
	[ 'socket inet:11333@localhost unix:/run/rspamd/worker.sock', '' ],
	[ 'quarantine_action quarantine', 'quarantine_action: there is no quarantine (try quarantine { directory /var/lib/postern/quarantine })' ],
	[ 'socket fd:x', qr/^socket: "fd:x" is a socket to listen on/ ],
	[ 'path checkv2', 'path: "checkv2" does not begin with a slash, or has blanks in it' ],
	[ 'path "/a b"', 'path: "/a b" does not begin with a slash, or has blanks in it' ],
	[ 'spam_header X-Spam:', 'spam_header: "X-Spam:" is no name for it (it stands without its colon)' ],
	[ 'spam_header Received', 'spam_header: "Received" is no name for it (it stands without its colon)' ],
	[ 'settings_id ""', 'settings_id: it must be printable ASCII, 1 to 1000 octets' ],
	[ "as_user \"\xc3\xa4\"", 'as_user: it must be printable ASCII, 1 to 1000 octets' ],
	[ 'flags groups,no_log', 'flags: "groups,no_log" is no flag (several stand apart, without commas)' ],
	[ 'flags milter', 'flags: milter goes with the option rewrite (no, body or message)' ],
	[ 'flags zstd', 'flags: zstd asks for an answer that is compressed, and cannot be read' ],
	[ 'subject_tag ""', 'subject_tag: it must be printable ASCII, 1 to 64 octets, and not begin with a blank' ],
	[ 'reject_action accept', qr/^reject_action: "accept"/ ],
);
for my $mistake (@mistakes) {
	my ($options, $want) = @$mistake;

	ref $want ? like(said($options), $want, "told: $options") : is(said($options), $want, $want eq '' ? "good: $options" : "told: $options" =~ s/[^ -~]/?/gr);
}

done_testing;
