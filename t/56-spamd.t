#!/usr/bin/perl
# The filter spamd before a real one: each mode, the marks, the thresholds and what the administrator wants for spam.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use SmtpClient;
use SmtpSink;
use Spamd;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};
plan skip_all => 'spamd is not installed' unless Spamd->find;

my $sink = SmtpSink->start;
my $spamd = Spamd->start("rewrite_header Subject [sa]\n");
my $others = "From: <a\@example.net>\r\nX-Spam-Status: No, forged\r\nx-spam-hello: you\r\n";
my %mail = map { $_ => "Subject: $_\r\n$others\r\n.body\r\nend\r\n" } 'hello', 'an offer', 'a lottery', 'hello friend';

sub proxy
{
	my ($options) = @_;

	return TestProxy->start(<<"CONF");
workers 1
listener front { listen 127.0.0.1:0; backend inner; received no }
backend inner { hosts @{[ $sink->addr ]} }
spamd spam { socket @{[ $spamd->addr ]}; $options }
default_chain spam
CONF
}

sub sent
{
	my ($proxy, $content, @to) = @_;
	my $before = $sink->count;
	my $reply = $proxy->client->send_message(content => $content, to => @to ? \@to : 'r@example.org');

	return ($reply, $sink->count == $before ? undef : ($sink->messages)[-1]{content});
}

# ---- marks of ours -----------------------------------------------------------------------------

# mode, options, mail, what is added behind the header, the subject
my @marks = (
	[ 'symbols', '', 'hello', "X-Spam-Status: No, score=0.0 required=5.0 tests=none\r\nX-Spam-Score: 0.0\r\n" ],
	[ 'symbols', '', 'hello friend', "X-Spam-Status: No, score=-2.0 required=5.0 tests=TEST_FRIEND\r\nX-Spam-Score: -2.0\r\n" ],
	[ 'symbols', '', 'an offer', "X-Spam-Flag: YES\r\nX-Spam-Status: Yes, score=7.5 required=5.0 tests=TEST_OFFER\r\nX-Spam-Score: 7.5\r\n" ],
	[ 'check', '', 'an offer', "X-Spam-Flag: YES\r\nX-Spam-Status: Yes, score=7.5 required=5.0\r\nX-Spam-Score: 7.5\r\n" ],
	[ 'check', 'threshold 8', 'an offer', "X-Spam-Status: No, score=7.5 required=8\r\nX-Spam-Score: 7.5\r\n" ],
	[ 'check', 'threshold -3.5', 'hello friend', "X-Spam-Flag: YES\r\nX-Spam-Status: Yes, score=-2.0 required=-3.5\r\nX-Spam-Score: -2.0\r\n" ],
	[ 'check', 'mark no; subject_tag "[spam]"', 'an offer', '', '[spam] an offer' ],
	[ 'check', 'mark no; subject_tag "[spam]"', 'hello', '', 'hello' ],
	[ 'symbols', 'verdict reject; verdict_score 10', 'an offer', "X-Spam-Flag: YES\r\nX-Spam-Status: Yes, score=7.5 required=5.0 tests=TEST_OFFER\r\nX-Spam-Score: 7.5\r\n" ],
);
for my $case (@marks) {
	my ($mode, $options, $name, $added, $subject) = @$case;
	my $proxy = proxy("mode $mode; $options");
	my $want = $mail{$name} =~ s/^Subject: \K.*(?=\r\n)/$subject \/\/ $name/er;

	$want =~ s/^x-spam-.*\r\n//gmi unless $options =~ /mark no/;
	$want =~ s/\r\n\K(?=\r\n)/$added/;
	my ($reply, $got) = sent($proxy, $mail{$name});
	is($reply, 250, "mode $mode, $options: $name is delivered");
	is($got, $want, "mode $mode, $options: $name has its marks");
}

# ---- verdicts ----------------------------------------------------------------------------------

my @verdicts = (
	[ 'verdict reject', 'an offer', qr/^550 5\.7\.1 the message looks like spam\r\n/ ],
	[ 'verdict reject; code 554; text "no thanks"', 'an offer', qr/^554 5\.7\.1 no thanks\r\n/ ],
	[ 'verdict reject', 'hello', qr/^250 / ],
	[ 'verdict reject; verdict_score 10', 'an offer', qr/^250 / ],
	[ 'verdict reject; verdict_score 10', 'a lottery', qr/^550 / ],
	[ 'verdict reject; threshold 8', 'an offer', qr/^250 / ],
	[ 'verdict tempfail', 'an offer', qr/^451 / ],
	[ 'verdict discard', 'an offer', qr/^250 .*/ ],
	[ 'mode process; verdict reject', 'an offer', qr/^550 / ],
	[ 'mode headers; verdict reject', 'an offer', qr/^550 / ],
);
for my $case (@verdicts) {
	my ($options, $name, $want) = @$case;
	my $proxy = proxy($options);
	my ($reply, $got) = sent($proxy, $mail{$name});

	like($reply->raw, $want, "$options: $name");
	is(defined $got, scalar($reply == 250 && $options !~ /discard/), "$options: $name is " . (defined $got ? '' : 'not ') . 'delivered');
	ok($proxy->wait_log(qr/ spam filter=spam score=\d/), "$options: the log has the score")
	    unless $name eq 'hello' || $options =~ /threshold/;
}

# ---- what SpamAssassin writes ------------------------------------------------------------------

subtest 'its header fields' => sub {
	my $proxy = proxy('mode headers');

	my ($reply, $got) = sent($proxy, $mail{'an offer'});
	is($reply, 250, 'spam is delivered');
	like($got, qr/^Subject: \[sa\] an offer\r\n/m, 'with its subject');
	like($got, qr/^X-Spam-Status: Yes, score=7\.5 required=5\.0 tests=TEST_OFFER/m, 'and its fields');
	unlike($got, qr/forged|x-spam-hello/, 'and none of those that came');
	like($got, qr/\r\n\r\n\.body\r\nend\r\n\z/, 'the body is as it was');
	unlike($got, qr/(?<!\r)\n/, 'and all lines end in CR LF');
	($reply, $got) = sent($proxy, $mail{hello});
	like($got, qr/^Subject: hello\r\n(?:.*\r\n)*X-Spam-Status: No/m, 'the fields of other mail, too');
};

subtest 'the message as it makes it' => sub {
	my $proxy = proxy('mode process');

	my ($reply, $got) = sent($proxy, $mail{'an offer'});
	is($reply, 250, 'spam is delivered');
	like($got, qr/^Subject: \[sa\] an offer\r\n/m, 'with its subject');
	like($got, qr/^X-Spam-Status: Yes/m, 'and its fields');
	unlike($got, qr/forged|x-spam-hello/, 'and none of those that came');
	like($got, qr/\r\n\r\n\.body\r\nend\r\n\z/, 'and the body');
	unlike($got, qr/(?<!\r)\n/, 'and all lines end in CR LF');

	my $large = $mail{hello} . ('x' x 70 . "\r\n") x 10000;
	($reply, $got) = sent($proxy, $large);
	is($reply, 250, 'a large one');
	like($got, qr/\.body\r\nend\r\n(?:x{70}\r\n){10000}\z/, 'comes back whole');
};

subtest 'a report around the message' => sub {
	my $safe = Spamd->start("report_safe 1\n");
	my $proxy = TestProxy->start(<<"CONF");
workers 1
listener front { listen 127.0.0.1:0; backend inner }
backend inner { hosts @{[ $sink->addr ]} }
spamd spam { socket @{[ $safe->addr ]}; mode process }
default_chain spam
CONF
	my ($reply, $got) = sent($proxy, $mail{'an offer'});

	is($reply, 250, 'is delivered');
	like($got, qr/message\/rfc822.*\r\nSubject: an offer\r\n/s, 'with the message within');
	like($got, qr/^Content-Type: multipart\/mixed/m, 'as a part');
};

subtest 'whose preferences' => sub {
	my $proxy = proxy('user %r');

	sent($proxy, $mail{hello}, 'one@example.org');
	ok((wait_until { $spamd->log =~ /for one\@example\.org:/ }), 'those of the recipient');
	sent($proxy, $mail{hello}, 'two@example.org', 'three@example.org');
	unlike($spamd->log, qr/for (?:two|three)\@/, 'and nobody\'s when there are two');
	sent(proxy('user somebody'), $mail{hello});
	ok((wait_until { $spamd->log =~ /for somebody:/ }), 'or always the same');
};

subtest 'messages of all sizes' => sub {
	my $proxy = proxy('mode symbols; timeout 30s');

	is((sent($proxy, ''))[0], 250, 'none');
	is((sent($proxy, $mail{hello} . ('x' x 70 . "\r\n") x 40000))[0], 250, 'some megabytes');
	my $small = proxy('only_smaller 1000');
	is((sent($small, $mail{'an offer'}))[1] =~ /^X-Spam-Flag/m ? 1 : 0, 1, 'with only_smaller a small one is looked at');
	my ($reply, $got) = sent($small, $mail{'an offer'} . 'x' x 900 . "\r\n");
	unlike($got, qr/^X-Spam/mi, 'a larger one is not, and has no mark, nor one from outside');
};

subtest '50 messages at once' => sub {
	my $proxy = proxy('verdict reject');
	my @clients = map { $proxy->client } 1 .. 50;

	for my $c (@clients) {
		$c->ehlo;
		$c->mail('s@example.net');
		$c->rcpt('r@example.org');
		$c->data;
	}
	$clients[$_]->send($mail{ $_ % 2 ? "hello" : "an offer" } =~ s/^\.body/..body/mr . ".\r\n") for 0 .. $#clients;
	my @wrong = grep { $clients[$_]->read_reply != ($_ % 2 ? 250 : 550) } 0 .. $#clients;
	is("@wrong", '', 'each gets its own answer');
};

done_testing;
