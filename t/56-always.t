#!/usr/bin/perl
# The filter always: a fixed verdict, with its code, status and text.
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

# name, options, reply (undef: delivered), verdict in the log
my @cases = (
	[ 'nothing said', '', '550 5.7.1 message refused', 'reject' ],
	[ 'pass', 'verdict pass', undef, 'pass' ],
	[ 'accept', 'verdict accept', undef, 'accept' ],
	[ 'reject', 'verdict reject', '550 5.7.1 message refused', 'reject' ],
	[ 'reject with all', 'verdict reject; code 554; status 5.6.0; text "not \"here\", 100%"', '554 5.6.0 not "here", 100%', 'reject' ],
	[ 'tempfail', 'verdict tempfail', '451 4.7.1 please try again later', 'tempfail' ],
	[ 'tempfail with all', 'verdict tempfail; code 450; status 4.2.999; text later', '450 4.2.999 later', 'tempfail' ],
	[ 'lines', 'text "one, with a % in it" "two"', "550-5.7.1 one, with a % in it\r\n550 5.7.1 two", 'reject' ],
	[ 'ten lines', 'verdict tempfail; text' . ' "x"' x 10, join("\r\n", ('451-4.7.1 x') x 9, '451 4.7.1 x'), 'tempfail' ],
	[ 'a text of its reject_text', 'reject_text "one" "two"', "550-5.7.1 one\r\n550 5.7.1 two", 'reject' ],
	[ 'discard', 'verdict discard', '250 2.0.0 Ok: discarded', 'discard' ],
	[ 'disconnect', 'verdict disconnect', '421 4.7.0 closing the connection', 'disconnect' ],
	[ 'disconnect with all', 'verdict disconnect; code 421; status 4.3.2; text "go away"', '421 4.3.2 go away', 'disconnect' ],
);

my $conf = "workers 1\nlistener early { listen 127.0.0.1:0; backend inner }\n"
	. "listener late { listen 127.0.0.1:0; backend inner; envelope late }\n"
	. "backend inner { hosts @{[ $sink->addr ]} }\n";
$conf .= "always f$_ { $cases[$_][1] }\nrule { recipient r$_\@example.org; chain f$_ }\n" for 0 .. $#cases;
my $proxy = TestProxy->start($conf . <<'CONF');
always pass { verdict pass }
always accept { verdict accept }
always reject { verdict reject; text last }
dummy slow { wait 30s }
rule { recipient accepted@example.org; chain pass accept reject }
rule { recipient passed@example.org; chain pass reject }
rule { recipient blocked@example.org; chain reject slow accept }
default_chain none
CONF
my $n = 0;
my $large = "Subject: large\r\n\r\n" . ("." . 'x' x 70 . "\r\n") x 5000;

for my $listener ('early', 'late') {
	for my $i (0 .. $#cases) {
		my ($name, $options, $reply, $verdict) = @{ $cases[$i] };

		subtest "$listener envelope: $name" => sub {
			my $content = $i % 2 ? $large : "Subject: small\r\n\r\nx\r\n";
			my $before = $sink->count;
			my $c = $proxy->client($listener);
			my $got = $c->send_message(to => "r$i\@example.org", content => $content);
			my $line = $proxy->wait_summary(++$n);

			if (defined $reply) {
				is($got->raw, "$reply\r\n", 'the reply is as configured');
				is($sink->count, $before, 'and nothing is delivered');
			} else {
				is($got, 250, 'the message passes');
				is($sink->count, $before + 1, 'and is delivered');
			}
			like($line->{filters}, qr{^f$i:$verdict/\d+ms$}, 'the log has the verdict');
			ok($verdict eq 'disconnect' ? $c->wait_eof : $c->noop == 250,
				$verdict eq 'disconnect' ? 'the session ends' : 'the session goes on');
		};
	}
}

subtest 'in a chain' => sub {
	my $before = $sink->count;

	is($proxy->client('late')->send_message(to => 'accepted@example.org'), 250, 'accept ends the chain');
	like($proxy->wait_summary(++$n)->{filters}, qr{^pass:pass/\d+ms,accept:accept/\d+ms$}, 'no filter behind it is asked');
	is($sink->count, $before + 1, 'and the message is delivered');
	my $got = $proxy->client('late')->send_message(to => 'passed@example.org');
	is($got->raw, "550 5.7.1 last\r\n", 'pass asks the next one');
	like($proxy->wait_summary(++$n)->{filters}, qr{^pass:pass/\d+ms,reject:reject/\d+ms$}, 'whose verdict counts');
	$got = $proxy->client('late')->send_message(to => 'blocked@example.org');
	is($got->raw, "550 5.7.1 last\r\n", 'reject ends the chain');
	like($proxy->wait_summary(++$n)->{filters}, qr{^reject:reject/\d+ms$}, 'at once');
	is($sink->count, $before + 1, 'and nothing more is delivered');
};

# What is wrong is told when the configuration is read.
my $dir = temp_dir();

sub said
{
	my ($options) = @_;
	my $file = "$dir/p";

	write_file($file, "listener front { listen 127.0.0.1:10025; backend inner }\nbackend inner { discard yes }\n"
		. "always f { $options }\ndefault_chain f\n");
	my $out = `'@{[ $proxy->program ]}' -T -c '$file' 2>&1 >/dev/null </dev/null`;
	return $out =~ s/^\Q$file\E://r;
}

my @wrong = (
	[ 'verdict maybe', '3:20: verdict: "maybe" is not one of: pass accept reject tempfail discard quarantine disconnect' ],
	[ 'verdict quarantine', '3:12: verdict: there is no quarantine (try quarantine { directory /var/lib/postern/quarantine })' ],
	[ 'code 250', '3:17: code: 250 is out of range (400 to 599)' ],
	[ 'code 451', '3:1: always f: code 451 is no reject (a code for it begins with 5)' ],
	[ 'verdict tempfail; code 550', '3:1: always f: code 550 is no tempfail (a code for it begins with 4)' ],
	[ 'verdict tempfail; code 421', '3:1: always f: code 421: 421 means that the connection is closed, which is verdict disconnect' ],
	[ 'verdict disconnect; code 451', '3:1: always f: code 451: 421 means that the connection is closed, and disconnect has no other' ],
	[ 'verdict pass; code 550', '3:1: always f: verdict pass has no reply of its own: code, status and text are for reject, tempfail and disconnect' ],
	[ 'verdict accept; text ok', '3:1: always f: verdict accept has no reply of its own: code, status and text are for reject, tempfail and disconnect' ],
	[ 'verdict discard; status 2.0.0', '3:1: always f: verdict discard has no reply of its own: code, status and text are for reject, tempfail and disconnect' ],
	[ 'status 5.7', '3:1: always f: status "5.7" is no enhanced status code (try 5.7.1)' ],
	[ 'status 5.1234.1', '3:1: always f: status "5.1234.1" is no enhanced status code (try 5.7.1)' ],
	[ 'status 4.7.1', '3:1: always f: status 4.7.1 is no reject (a status for it begins with 5)' ],
	[ "text \"a\tb\"", '3:1: always f: text has characters other than printable ASCII' ],
	[ "text \"\xc3\xa4\"", '3:1: always f: text has characters other than printable ASCII' ],
	[ 'text ' . 'x' x 401, '3:1: always f: text is longer than 400 octets' ],
);
is(said($_->[0]), "$_->[1]\n", 'told: ' . $_->[0] =~ s/x{9,}/xxx/r =~ s/[^ -~]/?/gr) for @wrong;
is(said('text one two'), "3:17: text: \"one\": a text of several words, and each line of it, stands in quotes\n", 'a text without its quotes is no two lines');
is(said('text' . ' "x"' x 11), "3:1: always f: text has more than 10 lines\n", 'eleven lines are too many');
is(said('text ' . 'x' x 400), '', 'a text of 400 octets is none too long');

done_testing;
