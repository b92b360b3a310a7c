#!/usr/bin/perl
# The filter scanner: clamscan with a database of one signature, and scripts that behave as scanners may.
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
my $dir = temp_dir();
my $scripts = 0;

# Scanners look for these octets.
my $marker = 'X5O!P%@AP-THIS-IS-A-TEST';
my $clean = "Subject: clean\r\nX-Virus-Status: clean, believe me\r\n\r\nnothing here\r\n";
my $bare = $clean =~ s/X-Virus-Status: .*\r\n//r; # a mark that comes in is nobody's word
my $ill = "Subject: ill\r\n\r\n$marker\r\n";

sub script
{
	my ($text) = @_;
	my $path = "$dir/s" . ++$scripts;

	write_file($path, "#!/bin/sh\n$text\n", 0755);
	return $path;
}

sub proxy
{
	my (@filters) = @_;
	my $blocks = join '', map { "scanner f$_ { $filters[$_] }\nrule { recipient r$_\@example.org; chain f$_ }\n" } 0 .. $#filters;

	return TestProxy->start(<<"CONF");
workers 1
listener front { listen 127.0.0.1:0; backend inner; received no }
backend inner { hosts @{[ $sink->addr ]} }
default_chain none
$blocks
CONF
}

# The reply, and what the back-end got.
sub sent
{
	my ($proxy, $i, $content) = @_;
	my $before = $sink->count;
	my $reply = $proxy->client->send_message(to => "r$i\@example.org", content => $content);

	return ($reply, $sink->count > $before ? ($sink->messages)[-1]{content} : undef);
}

# ---- a real one ------------------------------------------------------------------------------

SKIP: {
	my ($clamscan) = grep { -x } '/usr/bin/clamscan', '/usr/local/bin/clamscan';

	skip 'clamscan is not installed', 1 unless $clamscan;
	mkdir "$dir/db", 0755;
	write_file("$dir/db/test.ndb", "Postern.Test.One:0:*:" . unpack('H*', $marker) . "\n", 0644);
	subtest 'clamscan' => sub {
		my $scan = "command $clamscan --no-summary --stdout --database=$dir/db";
		my $proxy = proxy("$scan %f; mark X-Virus-Status", "$scan -; pipe yes; code 554; status 5.7.1; text \"virus %v\"", "$scan/no %f");
		my $large = "Subject: large\r\n\r\n" . ('x' x 70 . "\r\n") x 20_000;

		for my $i (0, 1) {
			my ($reply, $got) = sent($proxy, $i, $clean);
			is($reply, 250, 'a clean message passes');
			is($got, $i == 0 ? $bare =~ s/clean\r\n\K/X-Virus-Status: clean\r\n/r : $bare, $i == 0 ? 'with our mark' : 'without one');
			($reply, $got) = sent($proxy, $i, $ill);
			is($reply->raw, $i == 0 ? "550 5.7.1 the message contains Postern.Test.One.UNOFFICIAL\r\n" : "554 5.7.1 virus Postern.Test.One.UNOFFICIAL\r\n",
				'an infected one is refused by the name of what is in it');
			is($got, undef, 'and not delivered');
		}
		is((sent($proxy, 0, $large))[0], 250, 'a large clean one passes');
		is((sent($proxy, 0, "$large$marker\r\n"))[0], 550, 'a large one is looked at to its end');
		like((sent($proxy, 2, $clean))[0]->raw, qr/^451 4\.3\.0 /, 'without a database it fails');
		ok($proxy->wait_log(qr/^warn .* filter filter=f2 err="exit code 2: /m), 'and the log says with which code');
		ok($proxy->wait_log(qr/ virus filter=f0 virus=Postern\.Test\.One\.UNOFFICIAL$/m), 'what was found is logged');
	};
}

# ---- scripts ---------------------------------------------------------------------------------

my $failed = qr/^451 4\.3\.0 message could not be checked/;
my $found = qr/^550 5\.7\.1 the message contains Evil-1\r\n/;
# name, options, script, reply to a message, what it becomes
my @cases = (
	[ 'nothing found', '', 'exit 0', qr/^250 /, $bare ],
	[ 'nothing found, with words', '', 'echo "$1: OK"; exit 0', qr/^250 /, $bare ],
	[ 'a name', '', 'echo "$1: Evil-1 FOUND"; exit 1', $found ],
	[ 'a name on standard error', '', 'echo "$1: Evil-1 FOUND" >&2; exit 1', $found ],
	[ 'the first of two', '', 'echo; echo "$1: Evil-1 FOUND"; echo "$1: Evil-2 FOUND"; exit 1', $found ],
	[ 'a line that ends in CR LF', '', 'printf "%s: Evil-1 FOUND\r\n" "$1"; exit 1', $found ],
	[ 'found, without a name', '', 'exit 1', qr/^550 5\.7\.1 the message contains something\r\n/ ],
	[ 'a name with a code for clean', '', 'echo "$1: Evil-1 FOUND"; exit 0', $found ],
	[ 'a name with a code for an error', 'error_codes 2', 'echo "$1: Evil-1 FOUND"; exit 2', $found ],
	[ 'an error', 'error_codes 2', 'echo "cannot scan"; exit 2', $failed ],
	[ 'a code in no list', '', 'exit 50', $failed ],
	[ 'on_failure', 'on_failure pass', 'exit 50', qr/^250 /, $bare ],
	[ 'a signal', 'clean_codes 0 2-255', 'kill -SEGV $$', $failed ],
	[ 'a pattern without a group', 'infected /virus \w+/', 'echo "a virus here"; exit 0', qr/^550 5\.7\.1 the message contains virus here\r\n/ ],
	[ 'two patterns', 'infected /^ALERT: \[(\S+)/ /^! (\S+)/', 'echo "! Evil-1"; exit 3', $found ],
	[ 'as AntiVir has it', 'infected /^\s*ALERT: \[(\S+) virus\]/', 'echo "  ALERT: [Evil-1 virus] $1 <<< Contains signature"; exit 1', $found ],
	[ 'a name with control characters', '', 'printf "x: E\001v\033[1mi\303\244l FOUND\n"; exit 1', qr/^550 5\.7\.1 the message contains E v \[1mi\?\?l\r\n/ ],
	[ 'a name without an end', '', 'printf "x: %0100000d FOUND\n" 1; exit 1', qr/^550 5\.7\.1 the message contains (?:0{100}|something)\r\n/ ],
	[ 'a long one', '', 'printf "x: %0200d FOUND\n" 1; exit 1', qr/^550 5\.7\.1 the message contains 0{100}\r\n/ ],
	[ 'a text of one\'s own', 'text "%v, and again %v"', 'echo "x: Evil-1 FOUND"; exit 1', qr/^550 5\.7\.1 Evil-1, and again Evil-1\r\n/ ],
	[ 'a name with % in it', 'text "virus %v found"', 'echo "x: %v%s FOUND"; exit 1', qr/^550 5\.7\.1 virus %v%s found\r\n/ ],
	[ 'discard', 'verdict discard', 'echo "x: Evil-1 FOUND"; exit 1', qr/^250 / ],
	[ 'tempfail', 'verdict tempfail', 'exit 1', qr/^451 4\.7\.1 the message contains something/ ],
	[ 'pass, with a mark', 'verdict pass; mark X-Virus-Status', 'echo "x: Evil-1 FOUND"; exit 1', qr/^250 /,
		"Subject: clean\r\nX-Virus-Status: infected (Evil-1)\r\n\r\nnothing here\r\n" ],
	[ 'a mark', 'mark X-Virus-Status', 'exit 0', qr/^250 /, "Subject: clean\r\nX-Virus-Status: clean\r\n\r\nnothing here\r\n" ],
	[ 'a failure has no mark, nor a forged one', 'mark X-Virus-Status; on_failure pass', 'exit 50', qr/^250 /, $bare ],
	[ 'a pattern over its limits is a failure', 'infected /^(a|a|aa)+$/', 'echo "' . 'a' x 60 . 'b"; exit 0', $failed ],
	[ 'unless the code says that something was found', 'infected /^(a|a|aa)+$/', 'echo "' . 'a' x 60 . 'b"; exit 1', qr/^550 5\.7\.1 the message contains something/ ],
	[ 'much output', '', 'head -c 60000 /dev/zero; exit 0', qr/^250 /, $bare ],
	[ 'clean, after more output than is looked at', '', 'head -c 70000 /dev/zero; echo "x: Evil-1 FOUND"; exit 0', $failed ],
	[ 'found, after more output than is looked at', '', 'head -c 70000 /dev/zero; exit 1', qr/^550 5\.7\.1 the message contains something/ ],
	[ 'much on standard error', '', 'head -c 300000 /dev/zero >&2; exit 0', qr/^250 /, $bare ],
	[ 'too much output', 'max_output 100K', 'head -c 300000 /dev/zero; exit 0', $failed ],
	[ 'too late', 'timeout 200ms; grace 100ms', 'trap "" TERM; while :; do sleep 0.1; done', $failed ],
);
my $proxy = proxy(map { "command @{[ script($_->[2]) ]} %f; $_->[1]" } @cases);

for my $i (0 .. $#cases) {
	my ($name, undef, undef, $want, $content) = @{ $cases[$i] };
	my ($reply, $got) = sent($proxy, $i, $clean);

	like($reply->raw, $want, $name);
	is($got, $content, defined $content ? '  delivered' : '  not delivered');
}
ok((wait_until { !grep { -e } glob $proxy->dir . '/spool/programs.*/*' }), 'no file remains');

done_testing;
