#!/usr/bin/perl
# TLS towards back-ends: what is delivered, and what is not, and never in clear what must not be.
use strict;
use warnings;
use MIME::Base64;
use Test::More;
use Certs;
use SmtpSink;
use TestProxy;
use TestUtil;

my $certs = Certs->new;
$certs->authority('other');
my %made = (
	good => {},
	expired => { from => '200101000000Z', to => '200201000000Z' },
	future => { from => '400101000000Z', to => '400201000000Z' },
	stranger => { names => 'DNS:other.example' },
	foreign => { ca => 'other' },
	own => { ca => 'self' },
	named => { names => 'DNS:mx.example' },
);
my %tls = map { my ($cert, $key) = $certs->make($_, %{ $made{$_} }); ($_ => { cert => $cert, key => $key }) } sort keys %made;
my @kept; # folders, until the end

my ($failed, $unreachable) = ('4.7.5 TLS with the next hop failed: ', '4.4.1 the next hop cannot be reached, try again later');
my $number = 0;
my (@cases, $conf);

# A back-end that does so, and one case. %opt: sink, options, and what is to be seen: reply (of the front, undef when it
# is delivered), tls (is it delivered through TLS?), log, check (a sub).
sub add
{
	my ($name, %opt) = @_;
	my $sink = $opt{sink} = SmtpSink->start(%{ $opt{sink} });
	my $id = 'c' . ++$number;

	push @cases, { %opt, name => $name, id => $id };
	$conf .= <<"CONF";
listener $id { listen 127.0.0.1:0; backend $id }
backend $id { hosts @{[ $sink->addr ]}; command_timeout @{[ 3 * $TestUtil::PATIENCE ]}s; $opt{options} }
CONF
	return;
}

# ---- the table -----------------------------------------------------------------------------

# name, the sink, what is heard where TLS must be (undef: it is delivered), and where the certificate must be good.
my @hosts = (
	[ 'no STARTTLS', {}, 'it does not offer STARTTLS' ],
	[ 'STARTTLS refused for now', { tls => $tls{good}, starttls => '454 4.7.0 not now' }, 'it refused STARTTLS' ],
	[ 'STARTTLS refused', { tls => $tls{good}, starttls => '502 5.5.1 what?' }, 'it refused STARTTLS' ],
	[ 'an end at STARTTLS', { tls => $tls{good}, starttls => 'close' }, 'it gave no answer to STARTTLS' ],
	[ 'a reset at STARTTLS', { tls => $tls{good}, starttls => 'rst' }, 'it gave no answer to STARTTLS' ],
	[ 'silence at STARTTLS', { tls => $tls{good}, starttls => 'silent' }, 'it gave no answer to STARTTLS' ],
	[ 'an end in the handshake', { tls => $tls{good}, handshake => 'close' }, 'it ended the connection in the TLS handshake' ],
	[ 'a reset in the handshake', { tls => $tls{good}, handshake => 'rst' }, 'it ended the connection in the TLS handshake' ],
	[ 'silence in the handshake', { tls => $tls{good}, handshake => 'silent' }, 'it does not answer in the TLS handshake' ],
	[ 'something else than a handshake', { tls => $tls{good}, handshake => { raw => "500 what?\r\n" } }, 'it does not speak TLS' ],
	[ 'no version in common, by alert', { tls => $tls{good}, handshake => { raw => "\x15\3\1\0\2\2\x46", then => 'close' } },
		'no TLS version in common' ],
	[ 'TLS 1.1 only', { tls => { %{ $tls{good} }, versions => [ '1.0', '1.1' ], ciphers => 'DEFAULT:@SECLEVEL=0' } },
		'no TLS version in common' ],
	[ 'a good certificate', { tls => $tls{good} }, undef, undef ],
	[ 'an expired certificate', { tls => $tls{expired} }, undef, 'its certificate has expired' ],
	[ 'a certificate of the future', { tls => $tls{future} }, undef, 'its certificate is not valid yet' ],
	[ 'a certificate for another name', { tls => $tls{stranger} }, undef, 'its certificate is for another name' ],
	[ 'a certificate of another authority', { tls => $tls{foreign} }, undef,
		'its certificate is not signed by an authority that is trusted here' ],
	[ 'a self-signed certificate', { tls => $tls{own} }, undef,
		'its certificate is not signed by an authority that is trusted here' ],
);

for my $host (@hosts) {
	my ($name, $sink, $broken, $bad) = @$host;
	$bad = $broken if defined $broken;
	add("none: $name", sink => $sink, options => 'tls none', tls => 0, check => sub {
		my ($case) = @_;
		unlike $case->{sink}->events, qr/STARTTLS$/m, 'STARTTLS is not said' unless $case->{sink}{script}{tls};
		ok !(grep { $_ eq 'STARTTLS' } $case->{sink}->commands), 'STARTTLS is not said';
	});
	add("opportunistic: $name", sink => $sink, options => 'tls opportunistic', tls => !defined $broken,
		in_clear => defined $broken && $name !~ /no STARTTLS|refused/);
	add("required: $name", sink => $sink, options => 'tls required', tls => 1,
		reply => defined $broken ? $failed . $broken : undef);
	add("verify: $name", sink => $sink, options => 'tls verify; tls_ca ' . $certs->ca, tls => 1,
		reply => defined $bad ? $failed . $bad : undef);
}

# ---- pins ----------------------------------------------------------------------------------

my $hex = Certs::pin($tls{good}{cert});
my $base64 = encode_base64(pack('H*', $hex), '');
my $wrong = 'ab' x 32;
my $no_pin = 'its key is not one of those that are pinned';
my $own = Certs::pin($tls{own}{cert});
my $no_trust = 'its certificate is not signed by an authority that is trusted here';

for my $case (
	# options, certificate, trouble
	[ 'hexadecimal', "tls required; tls_pin $hex", 'good' ],
	[ 'hexadecimal with colons', 'tls verify; tls_pin ' . uc join(':', unpack '(A2)*', $hex), 'good' ],
	[ 'base64', "tls verify; tls_pin sha256//$base64", 'good' ],
	[ 'base64 alone', "tls verify; tls_pin $base64", 'good' ],
	[ 'the second of several', "tls verify; tls_pin $wrong $hex", 'good' ],
	[ 'a wrong one', "tls verify; tls_pin $wrong", 'good', $no_pin ],
	[ 'a wrong one, required', "tls required; tls_pin $wrong", 'good', $no_pin ],
	[ 'of a self-signed certificate', "tls verify; tls_pin $own", 'own' ],
	[ 'of a self-signed certificate, with an authority', "tls verify; tls_pin $own; tls_ca " . $certs->ca, 'own', $no_trust ],
	[ 'and an authority, both right', "tls verify; tls_pin $hex; tls_ca " . $certs->ca, 'good' ],
	[ 'a wrong one, and an authority', "tls verify; tls_pin $wrong; tls_ca " . $certs->ca, 'good', $no_pin ],
) {
	my ($name, $options, $cert, $trouble) = @$case;
	add("pins: $name", sink => { tls => $tls{$cert} }, options => $options, tls => 1,
		reply => defined $trouble ? $failed . $trouble : undef);
}

# ---- versions, names, certificates ---------------------------------------------------------

my $old = { %{ $tls{good} }, versions => [ '1.0', '1.1' ], ciphers => 'DEFAULT:@SECLEVEL=0' };
my $two = { %{ $tls{good} }, versions => [ '1.2', '1.2' ] };
my ($our_cert, $our_key) = $certs->make('ours');
my ($bad_cert, $bad_key) = $certs->make('theirs', ca => 'other');
my $shows = "tls required; tls_certificate $our_cert; tls_key $our_key";

sub sees
{
	my ($pattern) = @_;

	return sub { like $_[0]{sink}->events, qr/^\d+ tls .*$pattern/m, 'as the back-end sees it' };
}

add('tls_min_version 1.1 speaks it', sink => { tls => $old }, options => 'tls required; tls_min_version 1.1', tls => 1,
	check => sees('TLSv1\.1 '));
add('TLS 1.2', sink => { tls => $two }, options => 'tls required', tls => 1, check => sees('TLSv1\.2 '));
add('TLS 1.2 where 1.3 must be', sink => { tls => $two }, options => 'tls required; tls_min_version 1.3',
	reply => $failed . 'no TLS version in common');
add('no cipher in common', sink => { tls => { %$two, ciphers => 'ECDHE-RSA-AES128-GCM-SHA256' } }, options => 'tls required',
	reply => $failed . 'it refused the handshake (no cipher in common, or a certificate is missing)');
add('tls_name', sink => { tls => $tls{named} }, options => 'tls verify; tls_name mx.example; tls_ca ' . $certs->ca, tls => 1,
	check => sees('name=mx\.example'));
add('a wrong tls_name', sink => { tls => $tls{good} }, options => 'tls verify; tls_name mx.example; tls_ca ' . $certs->ca,
	reply => $failed . 'its certificate is for another name');
add('tls_certificate is shown', sink => { tls => { %{ $tls{good} }, client_ca => $certs->ca } }, options => $shows, tls => 1,
	check => sees('cert=' . Certs::fingerprint($our_cert)));
for my $versions ([ '1.2', '1.2' ], [ '1.3', '1.3' ]) {
	my %asks = (tls => { %{ $tls{good} }, versions => $versions, client_ca => $certs->ca });
	add("no certificate where one is asked for, TLS $versions->[0]", sink => \%asks, options => 'tls required',
		reply => $failed . ($versions->[0] eq '1.3' ? 'it refused our certificate, or ours is missing'
		    : 'it refused the handshake (no cipher in common, or a certificate is missing)'));
	add("a certificate that is not taken, TLS $versions->[0]", sink => \%asks,
		options => "tls required; tls_certificate $bad_cert; tls_key $bad_key",
		reply => $failed . 'it refused our certificate, or ours is missing');
	add("opportunistic: no certificate where one is asked for, TLS $versions->[0]", sink => \%asks,
		options => 'tls opportunistic', tls => 0, in_clear => 1);
}

# ---- implicit TLS --------------------------------------------------------------------------

add('implicit_tls', sink => { tls => $tls{good}, implicit => 1 }, options => 'tls verify; implicit_tls yes; tls_ca ' . $certs->ca,
	tls => 1, check => sub { unlike $_[0]{sink}->events, qr/line STARTTLS/, 'no STARTTLS is said' });
add('implicit_tls with a bad certificate', sink => { tls => $tls{expired}, implicit => 1 },
	options => 'tls verify; implicit_tls yes; tls_ca ' . $certs->ca, reply => $failed . 'its certificate has expired');
add('implicit_tls where there is none', sink => {}, options => 'tls required; implicit_tls yes',
	reply => $failed . 'it does not speak TLS');
add('implicit_tls is never in clear', sink => {}, options => 'tls opportunistic; implicit_tls yes',
	reply => $failed . 'it does not speak TLS');

# ---- STARTTLS ------------------------------------------------------------------------------

for my $mode ('opportunistic', 'required') {
	my $again = { tls => $tls{good}, starttls => { raw => "220 go\r\n250 2.0.0 injected\r\n" } };
	add("$mode: octets in clear behind the 220", sink => $again, options => "tls $mode", reply => $unreachable,
		log => qr/the reply to STARTTLS is followed by /);
	$again = { tls => $tls{good}, starttls => { raw => "220 go\r\n2", then => 'silent' } };
	add("$mode: one octet in clear behind the 220", sink => $again, options => "tls $mode", reply => $unreachable,
		log => qr/the reply to STARTTLS is followed by /);
}
my ($before, $behind) = ("250 sink.example\nSIZE 1\nDSN\nCHUNKING\nPIPELINING\n8BITMIME\nAUTH PLAIN", '250 sink.example');
my $inside = sub {
	my ($case) = @_;
	my $sink = $case->{sink};
	my $txn = $sink->txn(0);

	is $txn->{mail}, 'FROM:<sender@example.net>', 'MAIL has no parameters';
	ok !$txn->{bdat}, 'content goes by DATA';
	my $events = $sink->events;
	like $events, qr/^$txn->{conn} line MAIL [^\n]*\n$txn->{conn} reply /m, 'and not in one group';
};
add('what was offered before TLS does not count', sink => { tls => $tls{good}, ehlo => $before, ehlo_tls => $behind },
	options => 'tls required; chunking yes', tls => 1, check => $inside);
add('nor where HELO is all that is taken in it', sink => { tls => $tls{good},
	ehlo => $before, ehlo_tls => '502 5.5.1 no EHLO' }, options => 'tls required; chunking yes', tls => 1, check => $inside);

# ---- AUTH ----------------------------------------------------------------------------------

my $password = temp_dir();
write_file("$password/it", "s3cret\n", 0600);
chown +(getpwnam 'nobody')[2, 3], "$password", "$password/it" if is_root();
my $auth = "auth_user postern; auth_password_file $password/it";
my $plain = 'AUTH PLAIN ' . encode_base64("\0postern\0s3cret", '');
my %knows = (unknown => '235 2.7.0 welcome');

add('AUTH after TLS', sink => { %knows, tls => $tls{good}, ehlo_tls => "250 sink.example\nAUTH PLAIN" },
	options => "tls required; $auth", tls => 1,
	check => sub { ok((grep { $_ eq $plain } $_[0]{sink}->commands), 'name and password are said') });
add('AUTH that is offered in clear only', sink => { %knows, tls => $tls{good},
	ehlo => "250 sink.example\nAUTH PLAIN", ehlo_tls => '250 sink.example' },
	options => "tls required; $auth", reply => $unreachable, log => qr/neither AUTH PLAIN nor AUTH LOGIN is offered/);
my $in_clear = qr/AUTH would send the password in clear/;
for my $case (
	# step of the sink, what the front hears, what the log says beside it
	[ { handshake => 'close' }, $failed . 'it ended the connection in the TLS handshake' ],
	[ { starttls => 'close' }, $failed . 'it gave no answer to STARTTLS' ],
	[ { starttls => '454 no' }, $unreachable, $in_clear ],
) {
	my ($sink, $reply, $log) = @$case;
	my ($step) = keys %$sink;
	add("AUTH is never said in clear ($step $sink->{$step})", sink => { %knows, %$sink, tls => $tls{good},
		ehlo => "250 sink.example\nAUTH PLAIN" }, options => "tls opportunistic; $auth", reply => $reply, log => $log,
		check => sub { ok !(grep { /^AUTH/ } $_[0]{sink}->commands), 'it was not said' });
}

# ---- all of them ---------------------------------------------------------------------------

# CASE='pins' plays only those.
my $proxy = TestProxy->start("workers 2\nlog { level debug }\n$conf");

for my $case (grep { !$ENV{CASE} || $_->{name} =~ /$ENV{CASE}/ } @cases) {
	subtest $case->{name} => sub {
		my $sink = $case->{sink};
		my $reply = $proxy->client($case->{id}, timeout => 60)->send_message;
		if (defined $case->{reply}) {
			is $reply, 451, 'the front keeps the mail';
			is $reply->text, $case->{reply}, 'and hears why';
			is $sink->count, 0, 'nothing is delivered';
			ok !(grep { /^MAIL/ } $sink->commands), 'no mail is begun';
			my ($why) = $case->{reply} =~ /failed: (.*)/;
			$why = qr/\Q$why\E|STARTTLS|TLS handshake|TLS: / if defined $why;
			$why = $case->{log} if $case->{log};
			ok $proxy->wait_log(qr/ backend [^\n]*backend=$case->{id} [^\n]*(?:$why)/), 'the log says it' if $why;
		} else {
			is $reply, 250, 'it is delivered' or diag $reply->raw, $sink->events,
			    grep { /$case->{id}\b/ } map { "$_\n" } split /\n/, $proxy->log;
			my $txn = wait_until { $sink->txn(0) };
			my $is_tls = $sink->events =~ /^$txn->{conn} tls TLS/m;
			ok !!$is_tls eq !!$case->{tls}, $case->{tls} ? 'through TLS' : 'in clear';
			my @told = $proxy->log =~ /^.* backend .*backend=$case->{id} .*state="in clear".*$/mg;
			is scalar @told, $case->{in_clear} ? 1 : 0, $case->{in_clear} ? 'the log says so once' : 'as it should be';
		}
		$case->{check}->($case) if $case->{check};
	};
}
unlike $proxy->log, qr/s3cret/, 'no password is in the log';
is $proxy->stop, 0, 'postern ends in good order';

# ---- several in a row ----------------------------------------------------------------------

# Back-ends, each as SmtpSink's arguments, behind one proxy.
our $listeners = ''; # what these say beside
sub pair
{
	my ($options, @sinks) = @_;
	my @hosts = map { SmtpSink->start(%$_) } @sinks;
	my $pair = TestProxy->start(<<"CONF");
workers 1
log { level debug }
listener front { listen 127.0.0.1:0; backend inner; $listeners }
listener late { listen 127.0.0.1:0; backend inner; envelope late; $listeners }
backend inner { hosts @{[ map { $_->addr } @hosts ]}; $options }
CONF
	return ($pair, @hosts);
}

for my $version ('1.2', '1.3') {
	subtest "a session of TLS $version is resumed" => sub {
		my ($pair, $sink) = pair('tls required; max_idle 0', { tls => { %{ $tls{good} }, versions => [ $version, $version ] } });
		is $pair->client->send_message, 250, "message $_" for 1 .. 3;
		ok $sink->wait_event(qr/^\d+ tls TLSv$version resumed/m), 'the back-end sees it';
		ok $pair->wait_log(qr/ tls side=back .*version=TLSv$version .*resumed=yes/), 'the log says so';
	};
}

subtest 'a resumed session is still one that was verified' => sub {
	my ($pair, $sink) = pair('tls verify; max_idle 0; tls_ca ' . $certs->ca, { tls => $tls{good} });
	is $pair->client->send_message, 250, "message $_" for 1 .. 3;
	ok $pair->wait_log(qr/ tls side=back .*resumed=yes .*verified=yes/), 'and the log says so';
};

subtest 'in clear at once, once TLS has failed' => sub {
	my ($pair, $sink) = pair('tls opportunistic; max_idle 0', { tls => $tls{good}, handshake => 'close' });
	is $pair->client->send_message, 250, "message $_" for 1 .. 5;
	my $said = grep { $_ eq 'STARTTLS' } $sink->commands;
	cmp_ok $said, '<=', 2, 'TLS is not tried each time';
	is scalar(() = $pair->log =~ /state="in clear"/g), 1, 'nor told each time' or diag $pair->log;
	unlike $pair->log, qr/state=down/, 'and the host is not down';
};

subtest 'TLS that fails once keeps no mail for long where AUTH must not go in clear' => sub {
	my ($pair, $sink) = pair("tls opportunistic; $auth", { %knows, tls => $tls{good}, handshake => 'close',
		ehlo => "250 sink.example\nAUTH PLAIN" });
	is $pair->client->send_message, 451, 'the front keeps the mail';
	$sink->script(handshake => undef);
	is $pair->client->send_message, 250, 'and delivers it when the host is well';
	my ($conn) = map { $_->{conn} } $sink->messages;
	like $sink->events, qr/^$conn tls TLS/m, 'through TLS' if defined $conn;
	unlike $pair->log, qr/state="in clear"/, 'it was never in clear';
};

subtest 'where AUTH may, it goes in clear as before' => sub {
	my ($pair, $sink) = pair("tls opportunistic; auth_plaintext yes; $auth", { %knows, tls => $tls{good},
		handshake => 'close', ehlo => "250 sink.example\nAUTH PLAIN" });
	is $pair->client->send_message, 250, 'mail passes';
	ok $pair->wait_log(qr/state="in clear"/), 'and the log says how';
};

# TLS has failed with it once; then it takes nothing else.
for my $listener ('front', 'late') {
	subtest "a host that insists on TLS is not kept in clear, $listener" => sub {
		my ($pair, $sink) = pair('tls opportunistic', { tls => $tls{good}, handshake => 'close', mail_tls => '250 2.1.0 Ok' });
		my @held = map { $pair->client } 1 .. 2;
		$_->ehlo for @held;
		is $_->mail('sender@example.net'), 250, 'two sessions at a time have a connection in clear' for @held;
		is $_->rset, 250, 'each' for @held;
		$sink->script(handshake => undef, mail => '530 5.7.0 Must issue a STARTTLS command first');
		is $pair->client($listener)->send_message, 250, 'its refusal costs no mail';
		is $held[0]->mail('sender@example.net'), 250, 'that connection is in use';
		is $pair->client($listener)->send_message, 250, 'the next mail passes as well';
		is scalar(grep { $sink->events =~ /^$_->{conn} tls TLS/m } $sink->messages), 2, 'all through TLS';
		is scalar(() = $sink->events =~ /^\d+ reply 530 /mg), 1, 'and the other connection in clear is not used again';
		unlike $pair->log, qr/does not take what we say/, 'the log complains of nothing';
	};
}

subtest 'a host that insists on TLS and cannot do it takes nothing' => sub {
	my ($pair, $sink) = pair('tls opportunistic', { tls => $tls{good}, handshake => 'close', mail => '530 5.7.0 STARTTLS first' });
	my $reply = $pair->client->send_message;
	is $reply, 451, 'the front keeps the mail';
	like $reply->text, qr/the next hop refuses our commands/, 'and hears why';
	is scalar(() = $sink->events =~ /^\d+ reply 530 /mg), 2, 'it was tried anew once';
};

subtest 'a host with a bad certificate is passed by' => sub {
	my ($pair, $bad, $good) = pair('tls verify; tls_ca ' . $certs->ca, { tls => $tls{expired} }, { tls => $tls{good} });
	is $pair->client->send_message, 250, "message $_" for 1 .. 3;
	is $bad->count, 0, 'it gets nothing';
	is $good->count, 3, 'the other one gets all';
	ok $pair->wait_log(qr/state=down host=\Q@{[ $bad->addr ]}\E [^\n]*its certificate has expired/), 'the log says why';
};

# Each has a share of the budget, and says nothing more from STARTTLS on.
for my $step ('starttls', 'handshake') {
	my $why = $step eq 'starttls' ? 'no reply to STARTTLS' : 'no answer in the handshake';
	local $listeners = 'final_reserve 100ms; budget ' . 6 * $TestUtil::PATIENCE . 's';

	subtest "hosts that are silent ($step) are spoken to in clear" => sub {
		my ($pair, @hosts) = pair('tls opportunistic', map { { tls => $tls{good}, $step => 'silent' } } 1 .. 2);
		is $pair->client->send_message, 250, 'mail passes';
		is $hosts[0]->count, 1, 'at the first one';
		ok $pair->wait_log(qr/host=\Q@{[ $hosts[0]->addr ]}\E state="in clear" [^\n]*$why/), 'and the log says why';
	};

	subtest "a host that is silent ($step) is passed by for that where TLS is a must" => sub {
		my ($pair, @hosts) = pair('tls required', { tls => $tls{good}, $step => 'silent' }, { tls => $tls{good} });
		is $pair->client->send_message, 250, 'mail passes';
		is $hosts[1]->count, 1, 'at the other one';
		ok $pair->wait_log(qr/state=down host=\Q@{[ $hosts[0]->addr ]}\E [^\n]*$why/), 'and the log says why';
	};
}

subtest 'a connection in use is used again' => sub {
	my ($pair, $sink) = pair('tls required', { tls => $tls{good} });
	my $c = $pair->client;
	is $c->send_message, 250, "message $_" for 1 .. 4;
	my %conns = map { $_->{conn} => 1 } $sink->txns;
	is scalar keys %conns, 1, 'for all of them';
};
done_testing;
