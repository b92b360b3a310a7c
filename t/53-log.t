#!/usr/bin/perl
# One summary line for each transaction, with the right words, whatever the mail holds and wherever
# the log goes.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use IO::Socket::UNIX;
use JSON::PP ();
use LogEvents;
use SmtpClient;
use SmtpSink;
use Socket qw(SOCK_DGRAM);
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR};

my $sink = SmtpSink->start;
my $daemon = 0;	# a test that dies leaves none behind
END { local $?; kill 'TERM', $daemon if $daemon }

sub conf
{
	my ($listener, @more) = @_;

	return join "\n", 'workers 1', "listener front { listen 127.0.0.1:0; backend inner; max_message 100K; $listener }",
	    "backend inner { hosts @{[ $sink->addr ]} }", @more, '';
}

sub client { my ($proxy) = @_; my $c = $proxy->client; $c->ehlo; return $c }

# MAIL and RCPT, and the beginning of the content.
sub begun
{
	my ($proxy, $from) = @_;
	my $c = client($proxy);

	$c->mail($from);
	$c->rcpt('b@example.org');
	$c->data;
	$c->send("Subject: begun\r\n");
	return $c;
}

# What the sink does unless told otherwise.
sub calm
{
	$sink->script(mail => '250 2.1.0 Ok', rcpt => '250 2.1.5 Ok', final => '250 2.0.0 Ok: queued as SINK%d');
	return;
}

# What must be in a summary line: `have` with values or patterns, `not` for keys that must be missing.
sub line_is
{
	my ($line, $name, $have, @not) = @_;

	subtest $name => sub {
		ok($line, 'there is a line') or return;
		for my $key (sort keys %$have) {
			my $want = $have->{$key};
			ref $want ? like($line->{$key}, $want, $key) : is($line->{$key}, $want, $key);
		}
		ok(!exists $line->{$_}, "no $_") for @not;
	};
	return;
}

my $number = qr/^\d+$/;

subtest 'what a summary line says' => sub {
	my $proxy = TestProxy->start(conf('max_hops 5'));
	my $addr = $sink->addr;
	my $c = client($proxy);
	my $port = $c->sock->sockport;
	my $n = 0;

	$c->send_message(content => "Message-ID: <1\@x.example>\r\nSubject: a\r\n\r\nx\r\n", to => [ 'a@example.org', 'b@example.org' ]);
	line_is($proxy->wait_summary(++$n), 'a message that passes', {
		listener => 'front', client => "127.0.0.1:$port", helo => 'client.example', from => '<sender@example.net>',
		to => '<a@example.org>', rcpts => 2, size => 44, msgid => '<1@x.example>', verdict => 'pass', code => 250,
		backend => "inner/$addr", reply => qr/^250 2\.0\.0 Ok: queued as SINK\d+$/, back => qr/^SINK\d+$/,
		receive_ms => $number, filter_ms => $number, deliver_ms => $number, s => qr/^[0-9a-f]{6}$/, t => 1 },
		'why', 'note', 'filters', 'bare_lf', 'bare_cr');
	$sink->script(final => '550 5.7.1 no "spam" here');
	$c->send_message(from => '');
	line_is($proxy->wait_summary(++$n), 'one that the back-end rejects', {
		from => '<>', verdict => 'reject', code => 550, reply => '550 5.7.1 no "spam" here', t => 2 }, 'back', 'msgid');
	$sink->script(final => '450 4.2.0 later');
	$c->send_message;
	line_is($proxy->wait_summary(++$n), 'one that it puts off', { verdict => 'tempfail', code => 450, reply => '450 4.2.0 later' });
	$sink->script(rcpt => '550 5.1.1 unknown');
	$c->send_message;
	$c->rset;
	line_is($proxy->wait_summary(++$n), 'one whose only recipient is refused',
		{ rcpts => 0, size => 0, verdict => 'reject', code => 550, reply => '550 5.1.1 unknown' }, 'to', 'receive_ms');
	ok($proxy->wait_log(qr/ t=4 rcpt to=<rcpt\@example\.org> code=550 text=unknown$/m), 'each refused recipient has a line');
	calm();
	$sink->script(rcpt => [ '550 5.1.1 unknown', '250 2.1.5 Ok' ]);
	$c->mail('s@example.net');
	$c->rcpt('no@example.org');
	$c->rcpt('yes@example.org');
	$c->data;
	$c->send("x\r\n.\r\n");
	$c->read_reply;
	line_is($proxy->wait_summary(++$n), 'one of two is refused',
		{ to => '<yes@example.org>', rcpts => 1, verdict => 'pass', code => 250 });
	$sink->script(mail => '553 5.1.8 bad sender');
	$c->send_message;
	line_is($proxy->wait_summary(++$n), 'a refused sender', { verdict => 'reject', code => 553, reply => '553 5.1.8 bad sender' }, 'to');
	calm();
	$c->send_message(content => "line\r\n" x 50_000);
	line_is($proxy->wait_summary(++$n), 'one that is too large', { verdict => 'reject', code => 552,
		reply => '552 5.3.4 message is larger than the limit of 102400 octets' }, 'back', 'deliver_ms');
	$c->mail('s@example.net', 'SIZE=200000');
	ok($proxy->wait_log(qr/ t=8 mail client=127\.0\.0\.1 code=552 text="message is larger/), 'one that says it will be, has a line too');
	$c->send_message(content => "S: x\n\r\na\rb\nc\r\n");
	line_is($proxy->wait_summary(++$n), 'bare newlines', { verdict => 'pass', bare_lf => 2, bare_cr => 1, size => 16 });
	$c->send_message(content => "Received: x\r\n" x 6);
	line_is($proxy->wait_summary(++$n), 'a loop', { verdict => 'reject', code => 554, reply => qr/^554 5\.4\.6 mail loop: 6 Received lines/ },
		'deliver_ms');
	$c->mail('s@example.net');
	$c->rcpt('b@example.org');
	$c->rset;
	line_is($proxy->wait_summary(++$n), 'an envelope that is abandoned', { rcpts => 1, verdict => 'abandoned', code => 0 }, 'reply', 'why');
	$c->mail('t@example.net');
	$c->ehlo;
	line_is($proxy->wait_summary(++$n), 'also by EHLO', { from => '<t@example.net>', verdict => 'abandoned' });
	$c->mail('u@example.net');
	$c->quit;
	line_is($proxy->wait_summary(++$n), 'and by QUIT', { from => '<u@example.net>', verdict => 'abandoned' });

	begun($proxy, 'reset@example.net')->reset;
	line_is($proxy->wait_summary(++$n), 'a front that breaks off', { from => '<reset@example.net>',
		verdict => 'abandoned', code => 0, why => 'broken', note => 'front gone' }, 'reply');
	begun($proxy, 'eof@example.net')->close;
	line_is($proxy->wait_summary(++$n), 'a front that closes', { from => '<eof@example.net>', verdict => 'abandoned',
		why => 'eof', note => 'front gone' });
	$sink->script(final => { wait => 'go', reply => '250 2.0.0 Ok: queued as LATER' });
	$c = begun($proxy, 'late@example.net');
	$c->send(".\r\n");
	$sink->wait_event(qr/ waits go$/m);
	$c->reset;
	$proxy->wait_log(qr/ disconnect .*why=broken.*\n.*\z/);
	is(scalar($proxy->summaries), $n, 'no line as long as the back-end has not answered');
	$sink->release('go');
	line_is($proxy->wait_summary(++$n), 'a front that is gone too late', { from => '<late@example.net>', verdict => 'pass',
		code => 250, back => 'LATER', why => 'broken', note => 'front gone, delivered' });
	calm();
	$sink->stop;
	is(client($proxy)->send_message, 451, 'the back-end is away');
	line_is($proxy->wait_summary(++$n), 'a back-end that is away', { verdict => 'tempfail', code => 451, backend => qr/^inner/ });
	$sink->restart;

	# Exactly one line for each MAIL that was taken as one.
	my %seen;
	$seen{"$_->{s} $_->{t}"}++ for $proxy->summaries;
	is(join(' ', grep { $seen{$_} != 1 } keys %seen), '', 'no transaction has two lines');
	is(scalar keys %seen, $n, 'and each has one');
};

subtest 'bare newlines that are rejected' => sub {
	my $proxy = TestProxy->start(conf('bare_newline reject'));

	client($proxy)->send_message(content => "a\nb\r\n");
	line_is($proxy->wait_summary, 'are told', { verdict => 'reject', code => 550, reply => qr/^550 5\.6\.11 bare CR or LF/ });
};

# ---- hostile values --------------------------------------------------------------------------

# Traffic whose values would like to be something else in a log.
my @hostile = (
	{ name => 'a second line in the reply', reply => "250 2.0.0 first\ninfo w0 s=1 t=1 msg verdict=pass" },
	{ name => 'quotes and keys in the reply', reply => '250 2.0.0 x" verdict=reject code="554' },
	{ name => 'a backslash at the end of the reply', reply => '250 2.0.0 x y\\' },
	{ name => '8-bit in the reply', reply => "250 2.0.0 \xff\xfe caf\xc3\xa9" },
	{ name => 'a quoted sender', from => '"a\\" verdict=reject x=\\""@example.net' },
	{ name => 'a long sender', from => ('f' x 64) . '@' . join '.', ('d' x 60) x 3 },
	{ name => 'a message id with keys', msgid => '<a@b> verdict=reject code=999' },
	{ name => 'a message id with controls', msgid => "<a\@b>\x01\x1b[2J\x7f\x9b" },
	{ name => 'a message id over lines', msgid => "<a\@b>\r\n\tverdict=reject" },
	{ name => 'an endless message id', msgid => '<' . 'x' x 60_000 . '>' },
	{ name => 'a message id of nothing', msgid => '' },
	{ name => 'a long reply', reply => '250 2.0.0 ' . 'y' x 480 },
);

sub play
{
	my ($proxy, $case) = @_;
	my $c = client($proxy);

	calm();
	$sink->script(final => $case->{reply}) if $case->{reply};
	return $c->send_message(from => $case->{from} // 's@example.net',
		content => (defined $case->{msgid} ? "Message-ID: $case->{msgid}\r\n" : '') . "Subject: x\r\n\r\nx\r\n");
}

my @as_text;
subtest 'no value can make a line or a key' => sub {
	my $proxy = TestProxy->start(conf(''));
	my $n = 0;

	for my $case (@hostile) {
		is(play($proxy, $case), 250, "$case->{name}: passes");
		my $line = $proxy->wait_summary(++$n);
		is($line->{verdict}, 'pass', "$case->{name}: the verdict is ours");
		is($line->{code}, 250, "$case->{name}: the code, too");
		push @as_text, $line;
	}
	my @lines = split /\n/, $proxy->log;
	is(scalar(grep { / msg / && /verdict=/ } @lines), $n, 'there are as many lines as messages');
	is(scalar(grep { !/\A(?:error|warn|info|debug) \S+ / } @lines), 0, 'each begins as a line of ours');
	is(scalar(grep { /[\x00-\x1f\x7f]/ } @lines), 0, 'none has a control character');
	cmp_ok((sort { $b <=> $a } map { length } @lines)[0], '<', 1400, 'none is endless');
};

subtest 'as JSON' => sub {
	my $proxy = TestProxy->start(conf('', 'log { format json }'), no_wait => 1);

	ok($proxy->wait_log(qr/"event":"ready"/), 'it starts');
	($proxy->{first}) = wait_until { $proxy->log =~ /"event":"listen".*"address":"([^"]+)"/ && $1 };
	is(play($proxy, $_), 250, "$_->{name}: passes") for @hostile;
	ok(wait_until { (() = $proxy->log =~ /"event":"msg"/g) == @hostile }, 'each has its line');
	my @objects = map { eval { JSON::PP->new->utf8->decode($_) } } split /\n/, $proxy->log;
	is(scalar(grep { !defined } @objects), 0, 'every line is JSON');
	my @msgs = grep { $_->{event} eq 'msg' } @objects;
	is(scalar @msgs, scalar @hostile, 'a summary each');
	for my $i (0 .. $#msgs) {
		my ($json, $text) = ($msgs[$i], $as_text[$i]);
		my %differs = map { $_ => 1 } qw(time level who event s t session txn client back);
		my @keys = sort grep { !$differs{$_} } keys %$json;

		is("@keys", join(' ', sort grep { !$differs{$_} } keys %$text), "$hostile[$i]{name}: the same keys as in text");
		$_->{reply} =~ s/SINK\d+/SINK/ for $json, $text;
		is($json->{$_}, $text->{$_}, "$hostile[$i]{name}: the same $_")
		    for grep { !/_ms$|^(?:reply|msgid|backend)$/ || ($text->{$_} // '') !~ /[^ -~]|\\x/ && !/_ms$|backend/ } @keys;
	}
	like($msgs[0]{time}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d$/, 'the time is complete');
	like(JSON::PP->new->encode([ $msgs[0]{size}, $msgs[0]{code} ]), qr/^\[\d+,250\]$/, 'numbers are numbers');
};

# Words of others in the other lines; TestProxy holds each against the table, in both forms.
for my $format (qw(text json)) {
	subtest "hostile words in other lines, as $format" => sub {
		my $proxy = TestProxy->start(conf('envelope early', "log { format $format }"), no_wait => 1, args => ['-v']);
		my $hostile = "\"q\" \\ x=y \xff\xfe\xc3\xa9\x01\x1b[2J " . "z\xc3\xbc" x 120;
		my $seen = sub { my ($event) = @_; return qr/$event .*z(?:\xc3\xbc|\\xc3\\xbc|\?|  )z|"event":"$event".*z(?:\xc3\xbc|\?|  )z/ };

		($proxy->{first}) = wait_until { $proxy->log =~ /address(?:=|":")(127[^" \n]+)/ && $1 };
		calm();
		my $c = client($proxy);
		$sink->script(rcpt => "550 5.1.1 $hostile");
		is($c->send_message, 550, 'a recipient is refused');
		ok($proxy->wait_log($seen->('rcpt')), 'as the line says') or diag $proxy->log;
		$c->rset;
		calm();
		$sink->script(rcpt => "503 5.5.1 $hostile");
		is($c->send_message, 451, 'a command is not understood');
		ok($proxy->wait_log($seen->('backend')), 'as the line says') or diag $proxy->log;
		$c->rset;
		is($c->mail('x@example.net', "SIZE=9999999"), 552, 'a MAIL that is refused');
		is($c->command("MAIL FROM:<\"a\\\"b \\\\ c\"\@example.net> X=\"y\""), 555, 'and one with odd words');
		calm();
		$sink->script(greeting => "554 5.3.2 $hostile");
		$sink->stop;
		$sink->restart;
		is($c->send_message(to => "\"q \\\" \\\\\"\@example.org"), 451, 'a back-end that turns us away');
		ok($proxy->wait_log(qr/(?: backend |"backend").*(?:5\.3\.2|554)/), 'as the line says') or diag $proxy->log;
		$sink->script(greeting => '220 sink.example ESMTP');
		$c = $proxy->client;
		$c->send("GET /\"\\ HTTP/1.1\r\n");
		is($c->read_reply, 554, 'an HTTP client');
		ok($proxy->wait_log(qr/why(?:=|":")http/), 'is told apart');
		$c = $proxy->client;
		$c->send("\xff\x01\"\r\n" x 30);
		ok($proxy->wait_log(qr/why(?:=|":")errors/), 'and one with too many errors');
	};
}

# ---- where it goes ---------------------------------------------------------------------------

subtest 'levels' => sub {
	my $port = free_port();
	my $proxy = TestProxy->start(conf('', 'log { level warn }') =~ s/127\.0\.0\.1:0\b/127.0.0.1:$port/r, no_wait => 1);

	ok((wait_until { eval { SmtpClient->connect("127.0.0.1:$port")->send_message == 250 } }), 'mail passes');
	$proxy->stop;
	is($proxy->log, '', 'level warn: nothing is said when all is well');
	$proxy = TestProxy->start(conf(''), args => ['-v']);
	is(client($proxy)->send_message, 250, 'with -v');
	ok($proxy->wait_log(qr/^debug /m), 'the log has debug lines');
};

# A syslog daemon and a postern that logs to it; only these two see this /dev/log.
sub with_syslog
{
	my ($format) = @_;
	my $dir = temp_dir();
	my $port = free_port();
	my ($uid, $gid) = (getpwnam 'nobody')[2, 3];
	my $self = { dir => $dir, lines => [], listen => sub {
		unlink "$dir/log";
		my $sock = IO::Socket::UNIX->new(Local => "$dir/log", Type => SOCK_DGRAM) or die "$dir/log: $!";
		chmod 0666, "$dir/log";
		$sock->blocking(0);
		return $sock;
	} };

	$self->{sock} = $self->{listen}->();
	mkdir "$dir/p";
	chown $uid, $gid, "$dir/p";
	write_file("$dir/conf", "user nobody\npid_file $dir/p/pid\nspool { directory $dir/p/spool }\n"
		. conf('', "log { to syslog; facility local3; format $format }") =~ s/127\.0\.0\.1:0\b/127.0.0.1:$port/r, 0644);
	write_file("$dir/null", '');
	my $proxy = bless { dir => temp_dir(), owner => $$, finished => 1, conf => '' }, 'TestProxy';
	# A /dev with nothing in it but what is needed, seen by this one postern only.
	$self->{out} = `unshare -m sh -c 'mount --bind /dev/null $dir/null && mount -t tmpfs none /dev && touch /dev/null \\
		&& mount --bind $dir/null /dev/null && ln -s $dir/log /dev/log && exec @{[ $proxy->program ]} -c $dir/conf' 2>&1`;
	$self->{status} = $?;
	$daemon = $self->{pid} = (read_file("$dir/p/pid") // 0) + 0;
	$self->{client} = SmtpClient->connect("127.0.0.1:$port") if $self->{status} == 0;
	return $self;
}

# Waits for a line; returns it.
sub syslog_line
{
	my ($self, $re) = @_;
	my $buf;

	return wait_until {
		push @{ $self->{lines} }, $buf while defined $self->{sock}->recv($buf, 65536) && length $buf;
		(grep { /$re/ } @{ $self->{lines} })[0];
	};
}

# All that can be long is: each in its own way.
sub send_longest
{
	my ($c) = @_;

	$sink->script(final => '250 2.0.0 Ok: queued as ' . 'z' x 480);
	$c->ehlo('h' x 60 . ('.' . 'i' x 60) x 3);
	return $c->send_message(from => '"' . 'f\\"' x 15 . '"@' . join('.', ('d' x 60) x 3), to => ('t' x 64) . '@' . join('.', ('e' x 60) x 3),
		content => 'Received: by x id ' . 'F' x 64 . "; x\r\nMessage-ID: <" . "\xff" x 2000 . ">\r\n\r\na\rb\nc\r\n");
}

my $longest = join ' ', sort qw(front listener client helo from to rcpts size msgid verdict code backend reply back receive_ms
    filter_ms deliver_ms bare_lf bare_cr);

subtest 'syslog' => sub {
	plan skip_all => 'needs root, for a /dev/log of its own' unless is_root();
	my $s = with_syslog('text');
	plan skip_all => "a mount namespace is not possible here: $s->{out}" if $s->{status} && $s->{out} =~ /unshare|mount/;
	is($s->{status}, 0, 'it starts') or diag $s->{out};
	my $c = $s->{client};

	is($c->send_message, 250, 'a message passes');
	my $line = syslog_line($s, qr/ msg .*verdict=pass/);
	like($line, qr/\A<158>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d postern\[\d+\]: .*\bmsg listener=front /,
		'its line arrives with facility and level, time, name and process');
	unlike($line, qr/\n/, 'without a line end');
	is(send_longest($c), 250, 'one with everything long');
	$line = syslog_line($s, qr/ msg .*z{20}/);
	cmp_ok(length $line, '<=', 1024, 'its line is no longer than syslog takes');
	my ($level, $event, @keys) = LogEvents::parse($line =~ s/\A.*?\]: //r);
	is(join(' ', sort @keys), $longest, 'and no key was lost');
	like($line, qr/ backend=inner\/127\.0\.0\.1:\d+ .* receive_ms=\d+ filter_ms=\d+ deliver_ms=\d+ bare_lf=1 bare_cr=1\z/,
		'nor a short value');
	calm();

	$s->{sock}->close;
	is($c->send_message(from => 'lost@example.net'), 250, 'mail passes while syslog is away');
	write_file("$s->{dir}/conf", read_file("$s->{dir}/conf") =~ s/backend inner/max_recipients 1; backend inner/r, 0644);
	kill 'HUP', $s->{pid};
	my $second = sub { $c->mail('a@example.net'); $c->rcpt('a@example.org'); my $r = $c->rcpt('b@example.org') + 0; $c->rset; return $r };
	ok((wait_until { $second->() == 452 }),
		'and a reload is possible');
	$s->{sock} = $s->{listen}->();
	ok(wait_until { $c->send_message(from => 'again@example.net') == 250 && do { my $b; $s->{sock}->recv($b, 65536); ($b // '') =~ /again\@/ } },
		'and lines arrive again when it is back');
	$sink->stop;
	is($c->send_message(from => 'warn@example.net'), 451, 'trouble');
	ok(syslog_line($s, qr/\A<156>.*\bbackend /), 'is a warning');
	$sink->restart;
	kill 'TERM', $s->{pid};
	ok(wait_until { not -d "/proc/$s->{pid}" }, 'it ends') and $daemon = 0;

	$s = with_syslog('json');
	is(send_longest($s->{client}), 250, 'one with everything long, as JSON');
	$line = syslog_line($s, qr/"event":"msg"/);
	cmp_ok(length $line, '<=', 1024, 'its line is no longer than syslog takes');
	($level, $event, @keys) = LogEvents::parse($line =~ s/\A.*?\]: //r);
	is(join(' ', sort @keys), $longest, 'it is JSON, and no key was lost');
	kill 'TERM', $s->{pid};
	ok(wait_until { not -d "/proc/$s->{pid}" }, 'it ends') and $daemon = 0;
};

subtest 'a fault that comes with every message' => sub {
	my $proxy = TestProxy->start(conf('envelope late'));
	my $c = client($proxy);

	calm();
	$sink->stop;
	is($c->send_message, 451, 'trouble') for 1 .. 12;
	ok($proxy->wait_summary(12), 'each message has its summary');
	is(scalar(() = $proxy->log =~ /^warn w0 s=\w+ t=\d+ backend .*err=/mg), 1, 'but the fault is told once');
	$proxy->stop;
	my @told = $proxy->log =~ /^(warn w0 s=\w+ t=\d+ backend .*err=.*)$/mg;
	like($told[-1], qr/ t=12 backend .* repeated=11$/, 'and at last how often, with the latest text');
	is(scalar @told, 2, 'once');
	$sink->restart;
};

done_testing;
