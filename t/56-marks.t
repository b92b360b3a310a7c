#!/usr/bin/perl
# Marks by which filters tell their verdicts: what comes in under their names does not reach anybody, whether the
# filter looked at the message or not.
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
my $proxy = TestProxy->start(<<"CONF");
workers 1
listener front { listen 127.0.0.1:0; backend inner; received no }
listener late { listen 127.0.0.1:0; backend inner; received no; envelope late }
listener other { listen 127.0.0.1:0; backend inner; received no }
backend inner { hosts @{[ $sink->addr ]} }
header checked { mark X-Checked "by us" }
header small { mark X-Small yes; only_smaller 300 }
header mine { mark X-Mine yes; skip_recipient mine\@example.org }
dummy broken { wait 1m; timeout 20ms; on_failure pass }
header again { mark X-Checked twice; match X-Checked /us/ }
rule { listener other; chain none }
rule { recipient none\@example.org; chain none }
rule { recipient again\@example.org; chain checked again }
rule { recipient broken\@example.org; chain broken small }
default_chain checked small mine
CONF

sub passed
{
	my ($listener, $to, $content) = @_;
	my $before = $sink->count;
	my $reply = $proxy->client($listener)->send_message(to => "$to\@example.org", content => $content);

	is($reply, 250, "it is taken");
	is($sink->count, $before + 1, "and delivered");
	return ($sink->messages)[-1]{content};
}

my $forged = "X-CHECKED: by them\r\n\t(really)\r\nSubject: x\r\nX-Checked:\r\nX-Small: yes\r\nx-mine: yes\r\n\r\nX-Checked: body\r\n";
my $bare = "Subject: x\r\n\r\nX-Checked: body\r\n";
my $large = ('y' x 70 . "\r\n") x 10;

for my $listener ('front', 'late') {
	is(passed($listener, 'x', $forged), $bare =~ s/x\r\n\K/X-Checked: by us\r\nX-Small: yes\r\nX-Mine: yes\r\n/r,
		"$listener: only what our filters have found is in it");
	is(passed($listener, 'x', $forged . $large), $bare =~ s/x\r\n\K/X-Checked: by us\r\nX-Mine: yes\r\n/r . $large,
		"$listener: a forged mark goes when the filter skips the message");
	is(passed($listener, 'mine', $forged . $large), $bare =~ s/x\r\n\K/X-Checked: by us\r\n/r . $large,
		"$listener: and when it is not for the recipient");
	is(passed($listener, 'none', $forged), $bare, "$listener: and when a rule asks no filter");
	is(passed($listener, 'broken', $forged), $bare =~ s/x\r\n\K/X-Small: yes\r\n/r, "$listener: and when a filter fails and passes");
	is(passed($listener, 'again', $forged), $bare =~ s/x\r\n\K/X-Checked: by us\r\nX-Checked: twice\r\n/r,
		"$listener: the mark of an earlier filter stays, and is seen by a later one");
}
is(passed('other', 'x', $forged), $forged, 'a listener whose rules do not know the filters leaves all as it is');
is(passed('front', 'x', "A: 1\r\n\r\n"), "A: 1\r\nX-Checked: by us\r\nX-Small: yes\r\nX-Mine: yes\r\n\r\n",
	'a message without such fields loses nothing');

done_testing();
