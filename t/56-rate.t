#!/usr/bin/perl
# The filter rate: so many messages, recipients or connections in a time, and then no more.
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

sub conf
{
	my ($filters, $gate, $workers) = @_;

	return "workers @{[ $workers // 1 ]}\nbackend inner { hosts @{[ $sink->addr ]} }\n"
		. "listener front { listen 127.0.0.1:0; backend inner; gate $gate }\n$filters\n";
}

# What MAIL is told to a new client.
sub mail
{
	my ($proxy, $from, $local) = @_;
	my $c = $proxy->client('front', $local ? (local => $local) : ());

	$c->ehlo;
	return $c->mail($from // 's@example.net')->raw =~ s/\r\n\z//r;
}

my $later = '451 4.7.1 too many messages from your address, try again later';

subtest 'by client' => sub {
	my $proxy = TestProxy->start(conf('rate r { limit 3 }', 'r'));

	like(mail($proxy), qr/^250 /, "message $_") for 1 .. 3;
	is(mail($proxy), $later, 'is one too many');
	is(mail($proxy), $later, 'as is the next one');
	like(mail($proxy, undef, '127.0.0.2'), qr/^250 /, 'another client has its own count');
	my $c = $proxy->client('front', local => '127.0.0.3');
	is($c->send_message, 250, "in one session $_") for 1 .. 3;
	is($c->send_message->raw, "$later\r\n", 'it is the same');
	is($c->noop, 250, 'and the session goes on');
	$proxy->summary_of($c) for 1 .. 3;
	like($proxy->summary_of($c)->{gate}, qr{^r\@mail:tempfail/\d+ms$}, 'the log has the verdict');
};

subtest 'a network is one client' => sub {
	my $proxy = TestProxy->start(conf('rate r { limit 2; ipv4_prefix 30 }', 'r'));

	like(mail($proxy, undef, '127.0.0.5'), qr/^250 /, 'one address');
	like(mail($proxy, undef, '127.0.0.6'), qr/^250 /, 'another one of its network');
	is(mail($proxy, undef, '127.0.0.7'), $later, 'are too many');
	like(mail($proxy, undef, '127.0.0.8'), qr/^250 /, 'the next network is another client');
};

subtest 'by sender' => sub {
	my $proxy = TestProxy->start(conf('rate r { by sender; limit 2; skip_sender <>; status 4.7.28; text "slowly, please" }', 'r'));

	like(mail($proxy, 'ann@example.net'), qr/^250 /, 'one message');
	like(mail($proxy, '"Ann"@Example.NET', '127.0.0.2'), qr/^250 /, 'another one, from elsewhere, written in another way');
	is(mail($proxy, 'ANN@example.net'), '451 4.7.28 slowly, please', 'is one too many');
	like(mail($proxy, 'bob@example.net'), qr/^250 /, 'another sender is not');
	like(mail($proxy, ''), qr/^250 /, 'a condition leaves some out') for 1 .. 4;
};

subtest 'by recipient, and counting recipients' => sub {
	my $proxy = TestProxy->start(conf("rate to { by recipient; limit 2; verdict reject }\nrate many { by sender; count recipients; limit 5 }\n", 'to many'));
	my $c = $proxy->client;

	$c->ehlo;
	for my $n (1, 2) {
		$c->mail("s$n\@example.net");
		is($c->rcpt('ann@example.org'), 250, "message $n for one");
		$c->rset;
	}
	$c->mail('s3@example.net');
	is($c->rcpt('ann@example.org')->raw, "550 5.7.1 too many messages for this recipient\r\n", 'is one too many');
	is($c->rcpt("r$_\@example.org"), 250, "another recipient: $_") for 1 .. 5;
	is($c->rcpt('r6@example.org')->raw, "451 4.7.1 too many recipients from this sender, try again later\r\n", 'as many as a sender may have');
	$c->rset;
	$c->mail('s4@example.net');
	is($c->rcpt('r6@example.org'), 250, 'another sender may have more');
};

subtest 'connections' => sub {
	my $proxy = TestProxy->start(conf("rate c { count connections; limit 2; verdict disconnect }", 'c'));

	$proxy->client for 1 .. 2;
	is(SmtpClient->new($proxy->addr)->read_reply->raw, "421 4.7.0 too many connections from your address, try again later\r\n", 'the third one');
	is(SmtpClient->new($proxy->addr, local => '127.0.0.2')->read_reply, 220, 'of one client');
};

subtest 'time passes' => sub {
	my $proxy = TestProxy->start(conf('rate r { limit 4; per 1s }', 'r'));
	my $c = $proxy->client;
	my $refused = sub { $c->rset; return $c->mail('s@example.net') == 451 };

	$c->ehlo;
	ok((wait_until { $refused->() }), 'the limit is reached');
	ok((wait_until { !$refused->() }), 'and one may send again');
	ok((wait_until { $refused->() }), 'until it is reached again');
};

subtest 'several workers count together' => sub {
	my $proxy = TestProxy->start(conf('rate r { limit 50 }', 'r', 4));
	my @clients = map { $proxy->client } 1 .. 12;
	my %told;

	$_->ehlo for @clients;
	for (1 .. 6) {
		$_->send("MAIL FROM:<s\@example.net>\r\nRSET\r\n") for @clients;
		for my $c (@clients) {
			$told{ $c->read_reply->code }++;
			$c->read_reply;
		}
	}
	is("$told{250} $told{451}", '50 22', 'so many and no more');
};

subtest 'a reload' => sub {
	my $proxy = TestProxy->start(conf('rate r { limit 3 }', 'r'));

	like(mail($proxy), qr/^250 /, "message $_") for 1 .. 3;
	is(mail($proxy), $later, 'no more');
	$proxy->write_conf(conf("rate r { limit 4 }\nrate q { limit 1 }", 'q r'));
	is($proxy->reload, 'done', 'with a reload that raises the limit');
	like(mail($proxy), qr/^250 /, 'there is one more');
	is(mail($proxy), $later, 'and no more than that: what was counted still counts');
	$proxy->write_conf(conf('rate r { limit 1; per 2h }', 'r'));
	is($proxy->reload, 'done', 'over another time');
	like(mail($proxy), qr/^250 /, 'it begins anew');
	is(mail($proxy), $later, 'with its own limit');
};

# ---- wrong configurations --------------------------------------------------------------------

my $dir = temp_dir();
my $program = TestProxy->program;
my @wrong = (
	[ '', 'limit is missing (try limit 100)' ],
	[ 'limit 1; by sender; count connections', 'count connections: they are a client\'s, a sender is not known yet (try by client)' ],
	[ 'limit 1; verdict pass', 'verdict pass: then there is no limit (try tempfail)' ],
	[ 'limit 1; verdict accept', 'verdict accept: then there is no limit (try tempfail)' ],
	[ 'limit 1; count connections; verdict discard', 'verdict discard: a connection is no message yet (try tempfail)' ],
	[ 'limit 1; code 550', 'code 550 is no tempfail (a code for it begins with 4)' ],
);
for my $case (@wrong) {
	my $file = write_file("$dir/p", conf("rate r { $case->[0] }", 'r'));
	my $said = `'$program' -T -c '$file' 2>&1 >/dev/null </dev/null`;
	is($said =~ s/^\Q$file\E://r, "4:1: rate r: $case->[1]\n", "told: $case->[0]");
}

done_testing;
