#!/usr/bin/perl
# Each sample of contrib/samples does what its first lines promise: the very files, with ports and folders that
# are free here in the place of theirs, and 127.0.2 instead of the network 192.0.2.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use JSON::PP ();
use MIME::Base64;
use Test::More;
use FakeService;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'runs the samples as they are' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $samples = srcdir() . '/contrib/samples';
my %done;	# samples that were run
my @kept;	# folders and back-ends, until the end
my %daemons;	# a test that dies leaves none behind
END { local $?; kill 'TERM', keys %daemons }

# The sample, to be run here. Hosts become those of %$sinks, by the name they have in the sample; one that is not
# there yet is made.
sub adapted
{
	my ($name, $sinks) = @_;
	my $conf = read_file("$samples/$name") // die "$name: $!";

	$done{$name} = 1;
	$conf =~ s/^(user\s+)postern/$1nobody/m or die "$name: no user";
	$conf =~ s/^(\s*(?:clients|trusted|rule \{ client)\s.*)$/$1 =~ s{\b192\.0\.2\.}{127.0.2.}gr/mge;
	$conf =~ s/(\blisten\s+)[\d.]+:\d+/${1}127.0.0.1:0/g;
	$conf =~ s{/var/spool/postern}{%d/spool}g;
	$conf =~ s{/var/(?:lib|log)/postern/|/run/(?:postern/)?(?!inner)}{%d/}g;
	$conf =~ s{^([^#\n]*\bhosts[ \t]+)([^\n;\}#]+)}{$1 . join ' ', map { ($sinks->{$_} //= SmtpSink->start)->addr } split ' ', $2}mge;
	return $conf;
}

# Runs a sample: the proxy and its back-ends, by the name of the host in the sample.
sub sample
{
	my ($name, %opt) = @_;
	my %sinks = %{ delete $opt{sinks} // {} };
	my $conf = adapted($name, \%sinks);

	$conf =~ s/$_->[0]/$_->[1]/g or die "$name: no $_->[0]" for @{ delete $opt{with} // [] };
	return (TestProxy->start($conf, %opt), \%sinks);
}

# A daemon with such a log instead of one that logs to stderr; in its folder.
sub daemon
{
	my ($name, @before) = @_;
	my %sinks;
	my $dir = temp_dir();
	my $port = free_port();
	my $conf = adapted($name, \%sinks) =~ s/127\.0\.0\.1:0\b/127.0.0.1:$port/r =~ s/%d/$dir/gr;

	push @kept, $dir, values %sinks;
	mkdir "$dir/$_" for 'spool', 'run';
	chmod 0700, "$dir/spool";
	$conf =~ s/^(pid_file\s).*/$1$dir\/run\/pid/m or $conf .= "\npid_file $dir/run/pid\n";
	$conf .= "spool { directory $dir/spool }\n" unless $conf =~ /^spool\b/m;
	$conf =~ s/^user .*\n//m unless is_root();
	write_file("$dir/conf", $conf, 0644);
	chown((getpwnam 'nobody')[2, 3], "$dir", map { "$dir/$_" } 'spool', 'run') if is_root();
	my $program = TestProxy::program({ dir => "$dir" });
	my $out = join ' ', map { s/%d/$dir/gr } @before;
	$out = $out ? `$out 'exec $program -c $dir/conf' 2>&1` : `$program -c $dir/conf 2>&1 </dev/null`;
	is($out, '', "$name starts as a daemon");
	my $pid = (read_file("$dir/run/pid") // 0) + 0;
	$daemons{$pid} = 1 if $pid;
	return ("127.0.0.1:$port", "$dir", $pid, (values %sinks)[0]);
}

sub daemon_stop
{
	my ($pid) = @_;

	kill 'TERM', $pid;
	# A zombie has stopped, too: init may take its time.
	ok(wait_until { (read_file("/proc/$pid/stat") // ' Z') =~ /\) Z/ || !-d "/proc/$pid" }, 'it stops') and delete $daemons{$pid};
	return;
}

# What a client hears instead of the greeting, or the greeting.
sub greeting
{
	my ($proxy, $listener, $from) = @_;

	return SmtpClient->new($proxy->addr($listener), local => $from)->read_reply;
}

# A file for the user that postern becomes, and nobody else.
sub secret
{
	my ($text) = @_;
	my $dir = temp_dir();

	push @kept, $dir;
	my $file = write_file("$dir/secret", "$text\n", 0600);
	chown((getpwnam 'nobody')[2, 3], $file) if is_root();
	return $file;
}

sub passes
{
	my ($proxy, $listener, $sink, $name, %opt) = @_;
	my $before = $sink->count;

	is($proxy->client($listener, %{ $opt{client} // {} })->send_message(%{ $opt{message} // {} }), 250, "a message passes $name");
	ok($sink->wait_count($before + 1), 'to its back-end');
	return;
}

# A program in the place of one that is not on this machine.
sub stand_in
{
	my ($text) = @_;
	my $dir = temp_dir();

	push @kept, $dir;
	return write_file("$dir/program", "#!/bin/sh\n$text\n", 0755);
}

# ---- one by one ------------------------------------------------------------------------------

subtest 'between.conf' => sub {
	my ($proxy, $sinks) = sample('between.conf');

	passes($proxy, 'front', $sinks->{'127.0.0.1:10026'}, 'from the front');
};

subtest 'scanners.conf' => sub {
	my $dir = temp_dir();
	# Where the score is in the message.
	my $clamd = content_clamd("$dir");
	my $spamd = FakeService->start(sub {
		my ($c) = @_;
		my ($len) = ($c->read_to("\r\n\r\n") // return) =~ /^Content-length: (\d+)/m;
		my ($score) = $c->read($len) =~ /^Subject: (\S+)/m;
		$c->send("SPAMD/1.1 0 EX_OK\r\nContent-length: 4\r\nSpam: " . ($score >= 5 ? 'True' : 'False') . " ; $score / 5.0\r\n\r\nTEST");
	});
	my ($proxy, $sinks) = sample('scanners.conf', with => [ [ qr{unix:\S+clamd\.ctl}, $clamd->addr ], [ qr{127\.0\.0\.1:783}, $spamd->addr ] ]);
	my $sink = $sinks->{'127.0.0.1:10026'};
	my $sent = sub { return $proxy->client->send_message(content => "Subject: $_[0]\r\n\r\nbody\r\n") };

	is($sent->('1.0'), 250, 'a message passes');
	like(($sink->messages)[-1]{content}, qr/^Subject: 1\.0\r\n(?:.*\r\n)*X-Virus-Status: clean\r\n/m, 'with the marks');
	is($sent->('7.0'), 250, 'and spam');
	like(($sink->messages)[-1]{content}, qr/^Subject: \[spam\] 7\.0\r\n(?:.*\r\n)*X-Spam-Flag: YES\r\n/m, 'with its tag');
	is($sent->('20.0'), 550, 'but not what is beyond doubt');
	$clamd->stop;
	is($sent->('1.0'), 451, 'without clamd mail waits');
};

subtest 'listeners.conf' => sub {
	my ($proxy, $sinks) = sample('listeners.conf');
	my ($mailboxes, $relay) = @$sinks{qw(192.0.2.20:25 192.0.2.25:25)};
	# Where their clients come from, and who is not one.
	my %from = (inbound => '127.0.2.2', outbound => '127.0.2.33', internal => '127.0.0.1');
	my %stranger = (inbound => '127.0.2.33', outbound => '127.0.2.2', internal => '127.0.3.1');
	my %open = map { $_ => $proxy->client($_, local => $from{$_}) } keys %from;

	$stranger{internal} = undef;	# 127.0.0.0/8 is this machine
	for my $name (sort keys %from) {
		is(greeting($proxy, $name, $stranger{$name}), 554, "$name: others may not speak") if $stranger{$name};
		my ($sink, $other) = $name eq 'outbound' ? ($relay, $mailboxes) : ($mailboxes, $relay);
		my $before = $other->count;
		passes($proxy, $name, $sink, "at $name", client => { local => $from{$name} });
		is($other->count, $before, 'and not to the other one');
	}

	my %name = (inbound => 'in', outbound => 'out', internal => 'app');
	for my $name (sort keys %open) {
		like($open{$name}->greeting->text, qr/^$name{$name}\.filter\.example\.org /, "$name: greets with its own name");
		$open{$name}->ehlo;
	}
	is(join(' ', map { grep { /^SIZE/ } @{ $open{$_}->caps } } qw(inbound outbound internal)),
		'SIZE 26214400 SIZE 52428800 SIZE 104857600', 'each offers its own size, or what the back-end takes')
	    or diag explain { map { $_ => $open{$_}->caps } keys %open };
	is($open{inbound}->mail('a@example.net', 'SIZE=27000000'), 552, 'inbound takes no 27 million octets');
	is($open{outbound}->mail('a@example.net', 'SIZE=27000000'), 250, 'outbound does');
	$open{outbound}->rset;
	is($open{outbound}->mail('a@example.net', 'SIZE=54000000'), 552, 'but not 54 million');
	is($open{internal}->mail('a@example.net', 'SIZE=54000000'), 250, 'which internal does');
	$_->rset for values %open;

	for my $case ([ inbound => 100 ], [ outbound => 500 ]) {
		my ($name, $max) = @$case;
		my $c = $open{$name};
		$c->send("MAIL FROM:<a\@example.net>\r\n" . join '', map { "RCPT TO:<r$_\@example.org>\r\n" } 1 .. $max + 1);
		my @replies = map { $c->read_reply . '' } 0 .. $max + 1;
		is(pop @replies, 452, "$name: of more than $max recipients those beyond must come again");
		is(scalar(grep { $_ eq '250' } @replies), $max + 1, 'the others are taken');
		$c->rset;
	}

	for my $name (sort keys %open) {
		my $sink = $name eq 'outbound' ? $relay : $mailboxes;
		my $mark = "mark-$name\@example.net";
		$open{$name}->mail($mark);
		$open{$name}->rcpt('b@example.org');
		my $heard = grep { /\Q$mark\E/ } $sink->commands;
		is($heard, $name eq 'outbound' ? 0 : 1, "$name: its back-end hears of the envelope "
			. ($name eq 'outbound' ? 'after the filters only' : 'at once'));
		$open{$name}->rset;
	}

	my @crowd = map { SmtpClient->new($proxy->addr('inbound'), local => '127.0.2.1') } 1 .. 51;
	my %heard;
	$heard{ $_->read_reply . '' }++ for @crowd;
	is_deeply(\%heard, { 220 => 50, 421 => 1 }, 'inbound: one client has no more than 50 connections');
	@crowd = ();

	my $bare = "Subject: bare\n\nbare\r\n";
	is($open{internal}->send_message(content => $bare), 550, 'internal refuses bare newlines');
	is($open{outbound}->send_message(content => $bare), 250, 'where outbound repairs them');

	# listener, sender, recipient, the filters that run
	my @chains = (
		[ 'inbound', 'a@example.net', 'joe@example.org', 'quick thorough' ],
		[ 'inbound', 'a@example.net', 'abuse@example.org', '' ],
		[ 'outbound', 'a@lists.example.org', 'joe@example.net', 'quick' ],
		[ 'outbound', 'joe@example.org', 'abuse@example.org', 'thorough' ],
		[ 'internal', 'app@example.org', 'joe@example.org', '' ],
	);
	for my $case (@chains) {
		my ($listener, $sender, $rcpt, $chain) = @$case;
		my $c = $proxy->client($listener, local => $from{$listener});
		is($c->send_message(from => $sender, to => $rcpt), 250, "$listener, $sender to $rcpt");
		my $line = $proxy->summary_of($c);
		is(join(' ', ($line->{filters} // '') =~ m{(\w+):pass}g), $chain, $chain eq '' ? 'passes no filter' : "passes $chain");
	}
};

subtest 'smarthost-tls.conf' => sub {
	plan skip_all => 'needs Net::SSLeay' unless eval { require Net::SSLeay };
	require Certs;
	my $certs = Certs->new;
	my ($cert, $key) = $certs->make('gate');
	my ($mx, $mx_key) = $certs->make('smarthost', names => 'DNS:smarthost.example.net');
	my ($ours, $ours_key) = $certs->make('front');
	my $sink = SmtpSink->start(tls => { cert => $mx, key => $mx_key }, caps => ['PIPELINING', 'AUTH PLAIN'], unknown => '235 2.7.0 welcome');
	my ($proxy) = sample('smarthost-tls.conf', sinks => { 'smarthost.example.net:587' => $sink }, with => [
		[ qr{/etc/postern/tls/cert.pem}, $cert ], [ qr{/etc/postern/tls/key.pem}, $key ],
		[ qr{/etc/postern/tls/ca.pem}, $certs->ca ], [ qr{/etc/postern/smarthost.password}, secret('open sesame') ],
		# The name leads nowhere here, and its authority is ours.
		[ qr{^(\s+)tls\s+verify$}m, "tls verify\ntls_name smarthost.example.net\ntls_ca " . $certs->ca ],
	]);
	my %client = (local => '127.0.2.9');

	is(greeting($proxy, 'front', '127.0.9.9'), 554, 'others may not speak');
	my $c = $proxy->client('front', %client);
	$c->ehlo;
	is($c->mail('a@example.net'), 530, 'in clear no mail is taken');
	$c = $proxy->client('front', %client);
	$c->ehlo;
	ok(!eval { $c->starttls(ca => $certs->ca, max => '1.3'); $c->ehlo == 250 }, 'a front without a certificate is cut');
	ok(!eval { $proxy->client('front', %client)->starttls(ca => $certs->ca, cert => $ours, key => $ours_key, max => '1.2') },
		'so is one with TLS 1.2');
	$c = $proxy->client('front', %client);
	$c->ehlo;
	$c->starttls(ca => $certs->ca, cert => $ours, key => $ours_key);
	$c->ehlo;
	is($c->send_message, 250, 'one that proves who it is may send') or diag($proxy->log);
	my @said = $sink->commands($sink->txn(0)->{conn});
	is(join(' ', map { (split)[0] } @said[0 .. 3]), 'EHLO STARTTLS EHLO AUTH', 'towards the smarthost TLS comes first, then our name');
	is($said[3], 'AUTH PLAIN ' . encode_base64("\0gate\@example.org\0open sesame", ''), 'and password');
};

subtest 'small-office.conf' => sub {
	plan skip_all => 'needs Net::SSLeay' unless eval { require Net::SSLeay };
	require Certs;
	my $certs = Certs->new;
	my ($mx, $mx_key) = $certs->make('provider', names => 'DNS:smtp.provider.example');
	my $sink = SmtpSink->start(tls => { cert => $mx, key => $mx_key }, implicit => 1, caps => [ 'AUTH PLAIN', 'SIZE 100000000' ],
		unknown => '235 2.7.0 welcome');
	my ($proxy) = sample('small-office.conf', sinks => { 'smtp.provider.example:465' => $sink }, with => [
		[ qr{/etc/postern/provider.password}, secret('sesame') ],
		[ qr{^(\s+)tls\s+verify$}m, "tls verify\ntls_name smtp.provider.example\ntls_ca " . $certs->ca ],
	]);

	passes($proxy, 'front', $sink, 'with TLS from the first octet on');
	is(($sink->commands($sink->txn(0)->{conn}))[1], 'AUTH PLAIN ' . encode_base64("\0office\@provider.example\0sesame", ''),
		'and a password');
	my $c = $proxy->client;
	$c->ehlo;
	is($c->mail('a@example.net', 'SIZE=21000000'), 552, 'what is too large for the provider is refused at home');
	my @all = map { my $d = $proxy->client; $d->ehlo; $d->mail('a@example.net'); $d->rcpt('b@example.org'); $d->data; $d } 1 .. 5;
	$_->send("Subject: x\r\n\r\nx\r\n.\r\n") for @all;
	is(scalar(grep { $_->read_reply == 250 } @all), 5, 'several at a time pass');
	cmp_ok($sink->connections, '<=', 3, 'over few connections');	# the first that asks what is offered is one
	$sink->stop;
	is($proxy->client->send_message, 451, 'while the provider is away the front keeps its mail');
};

subtest 'program.conf' => sub {
	my $policy = stand_in('for a; do f=$a; case $a in --header=*) h=${a#*=};; --sender=*) s=${a#*=};; esac; done' . "\n"
		. 'case $s in bad@*) echo "550 5.7.1 we do not know you"; exit 1;; slow@*) exit 75;; odd@*) exit 2;; esac' . "\n"
		. 'grep -q "^Subject: test" "$f" && echo "X-Policy: seen" >"$h"');
	my ($proxy, $sinks) = sample('program.conf', with => [ [ qr{/usr/local/sbin/mail-policy}, $policy ], [ qr{skip_client .*}, '' ],
		[ qr{clients\s.*}, 'clients 127.0.0.0/8' ] ]);
	my $sent = sub { return $proxy->client->send_message(from => "$_[0]\@example.net")->raw };

	like($sent->('good'), qr/^250 /, 'what the program likes passes');
	like(($sinks->{'127.0.0.1:10026'}->messages)[0]{content}, qr/^X-Policy: seen\r\n/m, 'with its header line');
	is($sent->('bad'), "550 5.7.1 we do not know you\r\n", 'what it refuses is refused in its words');
	like($sent->('slow'), qr/^451 4\.7\.1 /, 'what it puts off is put off');
	like($sent->('odd'), qr/^451 4\.3\.0 /, 'and when it fails, mail waits');
};

# One of contrib/programs, where the user that postern becomes can run it.
sub program
{
	my ($name) = @_;
	my $dir = temp_dir();

	push @kept, $dir;
	return write_file("$dir/$name", read_file(srcdir() . "/contrib/programs/$name"), 0755);
}

# A clamd that finds nothing.
sub content_clamd
{
	my ($dir) = @_;

	return FakeService->start(sub {
		my ($c) = @_;
		$c->read_to("zIDSESSION\0") // return;
		for (my $id = 1; defined $c->read_to("zFILDES\0x"); $id++) {
			$c->send("$id: fd[9]: OK\0");
		}
	}, address => "unix:$dir/clamd");
}

subtest 'milter-agent.conf' => sub {
	my $dir = temp_dir();
	my $clamd = content_clamd("$dir");
	my $second = stand_in('grep -q EVIL "$3" || exit 0; echo "$3: Test.Evil FOUND"; exit 1');
	my ($proxy, $sinks) = sample('milter-agent.conf', with => [
		[ qr{unix:\S+clamd\.ctl}, $clamd->addr ], [ qr{/usr/bin/clamscan}, $second ],
		(map { my $name = $_; [ qr{/usr/local/sbin/$name}, program($name) ] } qw(mail-archive text-only cure)),
		[ qr{only_time .*}, 'only_time @always' ],
	], folders => ['archive']);
	my $sink = $sinks->{'127.0.0.1:10026'};
	my $went = sub {
		my (%opt) = @_;
		my $n = $sink->count;
		my $code = $proxy->client->send_message(%opt);
		return $code == 250 && $sink->wait_count($n + 1) ? join(" ", sort map { /<(.*?)>/ } @{ ($sink->messages)[-1]{rcpt_ok} }) : $code;
	};
	my $picture = "Subject: x\r\nContent-Type: image/png\r\n\r\npng\r\n";
	my $program = "Subject: x\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b\r\n"
		. "Content-Type: application/x; name=\"a.exe\"\r\n\r\nMZ\r\n--b--\r\n";

	is($went->(from => 'ann@example.org', to => 'bob@partner.example'), 'audit@example.org bob@partner.example', 'a pair is watched');
	is($went->(from => 'cid@example.org', to => 'bob@partner.example'), 'bob@partner.example', 'another one is not');
	is($went->(to => 'joe@example.org'), 'jim@example.org joe@example.net', 'who has moved gets his mail at two places');
	like(($sink->messages)[-1]{content}, qr/^X-Forwarded-For-User: joe\@example\.org\r$/m, 'with a mark');
	is($went->(to => 'new@sales.example.org'), 'new@sales.example.org sales-archive@example.org', 'traffic is duplicated');
	is($went->(content => "Subject: x\r\n\r\nEVIL\r\n"), 550, 'what the second scanner finds is refused');
	is($went->(content => $picture), 'rcpt@example.org', 'a picture passes');
	is($went->(content => $picture, to => 'orders@example.org'), 550, 'but not to who wants text alone');
	is($went->(content => $program), 'rcpt@example.org', 'a program passes');
	like(($sink->messages)[-1]{content}, qr/hello\r\n--b\r\nContent-Type: text\/plain\r\n\r\nA program was taken out here\.\r\n--b--/, 'cured');
	ok((wait_until { my @kept = glob $proxy->dir . '/archive/*/*.eml'; @kept == 6 }), 'and all that passed is in the archive');
};

subtest 'ispmailgate.conf' => sub {
	my $scanner = stand_in('f=$4; grep -q EVIL "$f" || exit 0; echo "$f: Test.Evil FOUND"; exit 1');
	my ($proxy, $sinks) = sample('ispmailgate.conf', with => [ [ qr{/usr/bin/clamscan}, $scanner ] ]);
	my $evil = "Subject: x\r\n\r\nEVIL\r\n";

	for my $case ([ 'b@example.org', 'a@example.net', 250, 'nothing' ], [ 'joe@customer.example', 'a@example.net', 550, 'virscan' ],
		[ 'x@example.org', 'joe@m.customer.example', 550, 'virscan' ]) {
		my ($to, $from, $code, $filter) = @$case;
		my $c = $proxy->client;
		is($c->send_message(from => $from, to => $to, content => $evil), $code, "from $from to $to: $code") or diag($proxy->log);
		like($proxy->summary_of($c)->{filters}, qr/^$filter:\w+/, "by $filter");
	}
};

subtest 'scanner.conf' => sub {
	my $scanner = stand_in('for f; do :; done; grep -q EVIL "$f" || { echo "$f: OK"; exit 0; }; echo "$f: Test.Evil FOUND"; exit 1');
	my ($proxy, $sinks) = sample('scanner.conf', with => [ [ qr{/usr/bin/clamscan}, $scanner ] ]);

	is($proxy->client->send_message, 250, 'a clean message passes');
	like(($sinks->{'127.0.0.1:10026'}->messages)[0]{content}, qr/^X-Virus-Status: clean\r\n/m, 'with the mark');
	is($proxy->client->send_message(content => "Subject: x\r\n\r\nEVIL\r\n")->raw, "554 5.7.1 refused, it contains the virus Test.Evil\r\n",
		'an infected one is refused by its name');
};

subtest 'pairs.conf' => sub {
	my ($proxy, $sinks) = sample('pairs.conf', with => [
		[ qr{^listener front \{\n}m, "listener front {\n    clients any\n" ],
		[ qr/\* 7-18 \* \* mon-fri/, '* * * * *' ],
	]);
	my ($sink) = values %$sinks;
	my $try = sub {
		my ($from, $to, %opt) = @_;
		return $proxy->client('front', %opt)->send_message(from => $from, to => $to)->raw =~ s/\r\n//r;
	};
	my $trainee = 'trainee@example.org';

	like($try->($trainee, 'school@example.net'), qr/^250 /, 'OK for a pair');
	like($try->($trainee, $_), qr/^250 /, "the trainee may write to $_") for 'ann@example.com', 'ann@sub.example.org', 'postmaster';
	is($try->($trainee, 'ann@example.net'), '550 5.7.1 you may write to people of this house only', 'and to nobody else');
	is($sink->count, 4, 'four were delivered');
	is($try->('robot@example.org', 'robot@example.com'), '250 2.0.0 Ok: discarded', 'a pair whose mail is dropped');
	is($try->('ann@example.org', 'everybody@example.org'), '451 4.7.1 this list takes mail at night', 'a pair that has to wait');
	is($sink->count, 4, 'none of it was delivered');
	is($try->('ann@example.org', 'bob@example.org', local => '127.0.2.1'), '550 5.7.1 our addresses are not used from outside',
		'a sender of ours from outside');
	like($try->('joe@example.net', 'bob@example.org', local => '127.0.2.1'), qr/^250 /, 'another one from there');
};

subtest 'rspamd.conf' => sub {
	my $fake = FakeService->start(sub {
		my ($c) = @_;
		my $head = $c->read_to("\r\n\r\n") // return;
		my ($n) = $head =~ /^Content-Length: (\d+)/m;
		my ($action) = $c->read($n) =~ /^X-Action: (.*)\r/m;
		my ($user) = $head =~ /^User: (.*)\r/m;
		my $json = '{"action":"' . $action . '","score":7' . ($user ? ',"dkim-signature":"v=1; by=' . $user . '"' : '') . '}';

		$c->send("HTTP/1.1 200 OK\r\nContent-Length: " . length($json) . "\r\n\r\n$json");
		$c->fill;
	});
	my ($proxy, $sinks) = sample('rspamd.conf', with => [[ qr/\b127\.0\.0\.1:11333\b/, $fake->addr ]]);
	my $asked = sub {
		my ($listener, $action) = @_;

		return $proxy->client($listener)->send_message(content => "X-Action: $action\r\nSubject: x\r\n\r\nx\r\n");
	};
	my ($inner, $outer) = map { $sinks->{"127.0.0.1:$_"} } 10026, 10028;

	is($asked->('incoming', 'reject'), 554, 'spam that comes in is refused');
	is($asked->('incoming', 'soft reject'), 451, 'what rspamd wants to see again is put off');
	is($asked->('incoming', 'add header'), 250, 'what may be spam is taken');
	like(($inner->messages)[-1]{content}, qr/^X-Spam: Yes\r\nX-Spam-Status: Yes, score=7\.00 /m, 'and marked');
	is($asked->('outgoing', 'reject'), 451, 'what goes out is not refused');
	is($asked->('outgoing', 'add header'), 250, 'and not marked');
	like(($outer->messages)[-1]{content}, qr/^DKIM-Signature: v=1; by=office\r\n/m, 'but signed');
	unlike(($outer->messages)[-1]{content}, qr/^X-Spam/m, 'by rspamd alone');
};

subtest 'several-hosts.conf' => sub {
	my ($proxy, $sinks) = sample('several-hosts.conf');
	my ($first, $second) = @$sinks{qw(192.0.2.21:25 192.0.2.22:25)};
	my $counts = sub { return join ' ', $first->count, $second->count };

	is(scalar(grep { $proxy->client('turns')->send_message == 250 } 1 .. 4), 4, 'turns: four messages pass');
	is($counts->(), '2 2', 'each host gets two of them');
	is(scalar(grep { $proxy->client('ordered')->send_message == 250 } 1 .. 3), 3, 'ordered: three messages pass');
	is($counts->(), '5 2', 'the first host gets all of them');

	# While one is busy with a message, the next goes to the other.
	my $busy = $proxy->client('least');
	$busy->ehlo;
	$busy->mail('a@example.net');
	$busy->rcpt('b@example.org');
	is($proxy->client('least')->send_message, 250, 'least: a second message passes while one is under way');
	$busy->data;
	$busy->send("\r\n.\r\n");
	is($busy->read_reply, 250, 'and then the first');
	is($counts->(), '6 3', 'each goes to a host of its own');

	$first->stop;
	is($proxy->client($_)->send_message, 250, "$_: with the first host away the message passes") for qw(ordered turns least);
	is($second->count, 6, 'to the second');
};

subtest 'unix-sockets.conf' => sub {
	plan skip_all => 'only root may give a socket away' unless is_root();
	my $dir = temp_dir();
	my $sink = SmtpSink->start(path => "$dir/smtp");
	chmod 0666, "$dir/smtp";
	my ($proxy) = sample('unix-sockets.conf', sinks => { 'unix:/run/inner/smtp' => $sink });
	my $path = $proxy->dir . '/front';

	is($proxy->addr, "unix:$path", 'it listens on a socket');
	passes($proxy, 'front', $sink, 'through the sockets');
	my @st = stat $path;
	is(sprintf('%o', $st[2] & 0777), '660', 'its owner and group may connect');
	is(getgrgid($st[5]), 'mail', 'the group is mail');
	# Groups, then user.
	my $connects = sub { return system('setpriv', @_, 'perl', '-MIO::Socket::UNIX', '-e', 'exit !IO::Socket::UNIX->new(Peer => shift)', $path) == 0 };
	ok($connects->('--reuid=daemon', '--regid=mail', '--clear-groups'), 'a program of the group can');
	ok(!$connects->('--reuid=daemon', '--regid=daemon', '--clear-groups'), 'another one cannot');
};

subtest 'high-volume.conf' => sub {
	my ($proxy, $sinks) = sample('high-volume.conf');
	my @sinks = map { $sinks->{"192.0.2.$_:25"} } 21 .. 24;

	is(scalar(grep { defined } @sinks), 4, 'it has four hosts');
	is($proxy->client('front', local => '127.0.2.1')->send_message(content => "Subject: large\r\n\r\n" . ('x' x 70 . "\r\n") x 3000), 250, 'a message passes');
	ok((wait_until { grep { $_->count } @sinks }), 'to one of them');
	ok((grep { grep { /^BDAT / } $_->commands } @sinks), 'by BDAT');
	ok($proxy->wait_log(qr/ ready .*max_connections=20000 /), 'there may be 20000 clients');
	is(greeting($proxy, 'front', '127.0.9.9'), 554, 'others may not speak');
	for my $case ([ '127.0.2.1', 220, 'one of our fronts may have more' ], [ '127.0.2.99', 421, 'another client has no more than 100 connections' ]) {
		my ($from, $code, $name) = @$case;
		my @crowd = map { SmtpClient->new($proxy->addr, local => $from) } 1 .. 101;
		my %heard;
		$heard{ $_->read_reply . '' }++ for @crowd;
		is_deeply(\%heard, $code == 220 ? { 220 => 101 } : { 220 => 100, 421 => 1 }, $name);
	}
};

subtest 'sink.conf' => sub {
	my ($proxy) = sample('sink.conf', folders => ['inbox']);
	my $new = sub { return glob $proxy->dir . '/inbox/new/*' };

	is($proxy->client('forget')->send_message, 250, 'a message to be forgotten is taken');
	is($proxy->client('keep')->send_message(content => "Subject: keep me\r\n\r\nx\r\n"), 250, 'so is one to be kept');
	my @files = $new->();
	is(scalar @files, 1, 'the maildir has one of them');
	like(read_file($files[0]), qr/^Subject: keep me\r?$/m, 'which is the right one');
};

subtest 'addresses.conf' => sub {
	my ($proxy, $sinks) = sample('addresses.conf');
	my $sink = $sinks->{'127.0.0.1:10026'};
	my $gets = sub {
		my ($from, @to) = @_;

		is($proxy->client->send_message(from => $from, to => \@to), 250, "from $from to @to");
		return join ' ', map { /<([^>]*)>/ } @{ ($sink->messages)[-1]{rcpt_ok} };
	};

	is($gets->('ann@example.org', 'x@partner.example'), 'x@partner.example audit@example.org all@archive.example', 'the pair is watched');
	is($gets->('eve@example.org', 'x@partner.example'), 'x@partner.example all@archive.example', 'others are not');
	is($gets->('x@partner.example', 'bob@example.org', 'ann@example.org'),
		'ann@example.org cid@example.org dora@example.org all@archive.example', 'who has left is read by two others');
	like(($sink->messages)[-1]{content}, qr/^X-Redirected-From: bob\@example\.org\r$/m, 'and the mail is marked');
};

subtest 'early-late.conf' => sub {
	my ($proxy, $sinks) = sample('early-late.conf', sinks => { '127.0.0.1:10026' => SmtpSink->start(rcpt => ['250 ok', '250 ok', '550 5.1.1 unknown here']) });
	my $sink = $sinks->{'127.0.0.1:10026'};

	passes($proxy, $_, $sink, "at $_") for qw(early late);
	my $early = $proxy->client('early');
	$early->ehlo;
	$early->mail('a@example.net');
	like($early->rcpt('b@example.org')->raw, qr/^550 5\.1\.1 unknown here/, 'early: the back-end refuses the recipient in its words');
	my $late = $proxy->client('late');
	$late->ehlo;
	$late->mail('a@example.net');
	is($late->rcpt('b@example.org'), 250, 'late: the recipient is taken');
	is($late->data, 354, 'so is the content');
	$late->send("\r\n.\r\n");
	like($late->read_reply->raw, qr/^550 5\.1\.1 unknown here/, 'and then the message is refused');
};

subtest 'gate.conf' => sub {
	my ($proxy, $sinks) = sample('gate.conf', with => [
		[ qr/limit 200/, 'limit 3' ], [ qr/limit 500/, 'limit 2' ], [ qr/(only_client) 192\.0\.2\./, 'only_client 127.0.2.' ],
	]);
	my ($sink) = values %$sinks;
	my $client = sub { my $c = $proxy->client('front', local => "127.0.2.$_[0]"); $c->ehlo; return $c };

	is(SmtpClient->new($proxy->addr, local => '127.0.2.70')->read_reply->raw, "554 5.7.1 printers send no mail\r\n", 'a printer is turned away');
	my $c = $client->(5);
	is($c->send_message(from => 'a@example.org', to => [ 'x@example.net', 'noreply@example.org' ]), 250, 'others may send mail');
	is("@{ $sink->txn(0)->{rcpt} }", 'TO:<x@example.net>', 'and some recipients are left out');
	is($c->mail('a@example.org'), 250, 'an account');
	is($c->rcpt('y@example.net')->raw, "451 4.7.1 500 recipients a day are enough\r\n", 'has its share of recipients');
	$c->rset;
	is($c->mail('b@example.org'), 250, 'and a machine');
	$c->rset;
	is($c->mail('c@example.org'), 451, 'its share of messages');
	is($c->send_message(from => 'watch@example.org', to => 'x@example.net'), 250, 'but for one that has to send') for 1 .. 4;
};

subtest 'quarantine.conf' => sub {
	my ($proxy, $sinks) = sample('quarantine.conf');
	my $entries = sub { return grep { !m{/tmp$} } glob $proxy->dir . '/quarantine/*' };
	my $mail = sub { my ($subject, $from) = @_; return $proxy->client->send_message(from => $from, content => "Subject: $subject\r\n\r\nx\r\n") };

	passes($proxy, 'front', $sinks->{'127.0.0.1:10026'}, 'most mail');
	is($mail->('Our partner', 'a@example.net'), 250, 'any other, too');
	is($mail->('You won the Lottery', 'a@partner.example'), 250, 'and a partner may write what he likes');
	is(scalar(() = $entries->()), 0, 'nothing is set aside');
	is($mail->('You won the Lottery', 'a@example.net'), 250, 'the sender of advertising hears nothing else');
	is(scalar(() = $entries->()), 1, 'but it is set aside');
	like(read_file(($entries->())[0] . '/metadata.json'), qr/"reason": "the subject looks like advertising"/, 'with the reason');
	is($sinks->{'127.0.0.1:10026'}->count, 3, 'and not delivered');
};

subtest 'health.conf' => sub {
	my ($proxy, $sinks) = sample('health.conf');
	my $health = wait_until { $proxy->log =~ / health .*address=(127\.\S+)/ ? $1 : undef };
	my $get = sub {
		my ($path) = @_;
		my $sock = IO::Socket::INET->new(PeerAddr => $health, Proto => 'tcp') or return "$!";
		print $sock "GET $path HTTP/1.0\r\n\r\n";
		local $/;
		return <$sock> // '';
	};

	like($get->($_), qr{^HTTP/1\.\d 200 }, "$_ is answered") for qw(/healthz /readyz);
	passes($proxy, 'front', $sinks->{'127.0.0.1:10026'}, 'beside it');
	like($get->('/metrics'), qr/^postern_messages_received_total(?:\{[^}]*\})? 1$/m, '/metrics counts it');
};

subtest 'log-file.conf' => sub {
	my ($addr, $dir, $pid) = daemon('log-file.conf');
	my $file = "$dir/log";
	my $has = sub { my ($re) = @_; return wait_until { (read_file($file) // '') =~ $re } };

	is(SmtpClient->connect($addr)->send_message(from => 'one@example.net'), 250, 'a message passes');
	ok($has->(qr/^\S+ info w\d+ .* msg .*from=<one\@example\.net>/m), 'its line is in the file') or diag(read_file($file));
	rename $file, "$file.1";
	kill 'USR1', $pid;
	ok((wait_until { -e $file }), 'the signal of contrib/logrotate opens it anew');
	is(SmtpClient->connect($addr)->send_message(from => 'two@example.net'), 250, 'another one passes');
	ok($has->(qr/ msg .*from=<two\@example\.net>/), 'its line is in the new file');
	daemon_stop($pid);
};

subtest 'log-json.conf' => sub {
	my ($addr, $dir, $pid) = daemon('log-json.conf');

	is(SmtpClient->connect($addr)->send_message(from => 'one@example.net'), 250, 'a message passes');
	my $msg = wait_until { (grep { /"msg"/ } split /\n/, read_file("$dir/postern.json"))[0] };
	my $decoded = JSON::PP->new->decode($msg);
	is($decoded->{event}, 'msg', 'its line is an object');
	is($decoded->{from}, '<one@example.net>', 'with the sender');
	daemon_stop($pid);
	my @bad = grep { !eval { JSON::PP->new->decode($_) } } split /\n/, read_file("$dir/postern.json");
	is("@bad", '', 'and so are all others');
};

subtest 'log-syslog.conf' => sub {
	plan skip_all => 'needs root, for a /dev/log of its own' unless is_root();
	plan skip_all => 'needs a mount namespace' if system('unshare -m true 2>/dev/null') != 0;
	my $logs = temp_dir();
	my $socket = IO::Socket::UNIX->new(Local => "$logs/log", Type => Socket::SOCK_DGRAM()) or die "$logs/log: $!";
	chmod 0666, "$logs/log";
	$socket->blocking(0);
	write_file("$logs/null", '');
	my ($addr, $dir, $pid, $sink) = daemon('log-syslog.conf', 'unshare', '-m', 'sh', '-c',
		"'mount --bind /dev/null $logs/null && mount -t tmpfs none /dev && touch /dev/null && mount --bind $logs/null /dev/null "
		. "&& ln -s $logs/log /dev/log && exec sh -c \"\$0\"'");
	my @lines;
	my $seen = sub { my ($re) = @_; return wait_until { my $b; push @lines, $b while defined $socket->recv($b, 65536) && length $b; scalar grep { /$re/ } @lines } };

	is(SmtpClient->connect($addr)->send_message, 250, 'a message passes');
	$sink->stop;
	is(SmtpClient->connect($addr)->send_message, 451, 'one whose back-end is away does not');
	ok($seen->(qr/\A<156>.*postern\[\d+\]: .*\bbackend /), 'that is a warning, of facility local3');
	ok(!(grep { / msg / } @lines), 'summary lines are not written at this level');
	daemon_stop($pid);
};

subtest 'include/postern.conf' => sub {
	my $dir = temp_dir();
	my %sinks;
	mkdir "$dir/conf.d", 0755;
	for my $file (glob "$samples/include/conf.d/*.conf") {
		my $name = $file =~ s{.*/include/}{}r;
		# They have no user of their own.
		my $text = read_file($file);
		$text =~ s/(\blisten\s+)[\d.]+:\d+/${1}127.0.0.1:0/g;
		$text =~ s{(\bhosts[ \t]+)(\S+)}{$1 . ($sinks{$2} //= SmtpSink->start)->addr}ge;
		write_file("$dir/$name", $text, 0644);
		$done{"include/$name"} = 1;
	}
	my ($proxy) = sample('include/postern.conf', no_wait => 1, with => [ [ qr{conf\.d/\*}, "$dir/conf.d/*" ] ]);
	ok($proxy->wait_log(qr/ listen listener=$_ /), "the listener $_ is there") for qw(inside partner);
	$proxy->wait_listeners;
	passes($proxy, 'inside', $sinks{'127.0.0.1:10026'}, 'for our own users');
	passes($proxy, 'partner', $sinks{'192.0.2.40:25'}, 'for the customer');
	my %size = map { my $c = $proxy->client($_); $c->ehlo; $_ => $c->mail('a@example.net', 'SIZE=20000000') . '' } qw(inside partner);
	is_deeply(\%size, { inside => 250, partner => 552 }, 'each has its own limit');
	like(scalar `'@{[ $proxy->program ]}' -T -c '@{[ $proxy->conf_file ]}'`, qr{^\s*backend\s+partner\s+# \S*/conf\.d/20-partner\.conf:\d+$}m,
		'postern -T shows the file of a line');
};

my @all = map { s{^\Q$samples\E/}{}r } glob("$samples/*.conf"), glob("$samples/*/*.conf"), glob("$samples/*/*/*.conf");
is(join(' ', grep { !$done{$_} } @all), '', 'every sample was run');

done_testing;
