#!/usr/bin/perl
# A table: each parameter of MAIL and RCPT, good and bad, for a back-end that offers what it belongs to and for
# one that does not: our reply, and the very line that the back-end saw. With the envelope early and late.
use strict;
use warnings;
use Test::More;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

my @ALL = ('PIPELINING', 'SIZE 1000000', '8BITMIME', 'ENHANCEDSTATUSCODES', 'DSN', 'SMTPUTF8', 'AUTH PLAIN');
my %sink = (all => SmtpSink->start(caps => \@ALL), none => SmtpSink->start(caps => []));
my $proxy = TestProxy->start(<<"CONF");
workers 1
listener all_early  { listen 127.0.0.1:0; backend all; received no; max_errors 1000 }
listener all_late   { listen 127.0.0.1:0; backend all; received no; max_errors 1000; envelope late }
listener none_early { listen 127.0.0.1:0; backend none; received no; max_errors 1000 }
listener none_late  { listen 127.0.0.1:0; backend none; received no; max_errors 1000; envelope late }
backend all  { hosts @{[ $sink{all}->addr ]} }
backend none { hosts @{[ $sink{none}->addr ]} }
CONF
$proxy->wait_log(qr/backend=$_ state=up/) or die 'no back-end' for qw(all none);	# EHLO offers what it does

my $OK = '250 2.1';
my $UNKNOWN = '555 5.5.4';
my $BAD = '501 5.5.4';
my $LONG = 'x' x 100;
my $UTF8 = "j\xc3\xb6rg\@ex\xc3\xa4mple.net";

# What the front gives; for a back-end that offers all: our reply, and what stands in its place in the
# back-end's line ('=': the same); the same for one that offers nothing.
my @MAIL = (
	['', $OK, '', $OK, ''],
	['SIZE=100', $OK, '=', $OK, ''],
	['size=0', $OK, 'SIZE=0', $OK, ''],
	['SIZE', $BAD, undef, $BAD],
	['SIZE=', $BAD, undef, $BAD],
	['SIZE=-1', $BAD, undef, $BAD],
	['SIZE=1e3', $BAD, undef, $BAD],
	['SIZE=9999999999999999999', $BAD, undef, $BAD],
	['SIZE=1 SIZE=1', $BAD, undef, $BAD],
	['SIZE=52428801', '552 5.3.4', undef, '552 5.3.4'],
	['BODY=8BITMIME', $OK, '=', $UNKNOWN],
	['BODY=7BIT', $OK, '=', $UNKNOWN],
	['body=8bitmime', $OK, 'BODY=8BITMIME', $UNKNOWN],
	['BODY=BINARYMIME', $UNKNOWN, undef, $UNKNOWN],
	['BODY=9BIT', $BAD, undef, $UNKNOWN],
	['BODY', $BAD, undef, $UNKNOWN],
	['BODY=7BIT BODY=7BIT', $BAD, undef, $UNKNOWN],
	['SMTPUTF8', $OK, '=', $UNKNOWN],
	['smtputf8', $OK, 'SMTPUTF8', $UNKNOWN],
	['SMTPUTF8=1', $BAD, undef, $UNKNOWN],
	['SMTPUTF8 SMTPUTF8', $BAD, undef, $UNKNOWN],
	["<$UTF8> SMTPUTF8", $OK, '=', $UNKNOWN],
	["<$UTF8>", '553 5.6.7', undef, '553 5.6.7'],
	["<$UTF8> BODY=8BITMIME", '553 5.6.7', undef, $UNKNOWN],
	["<\xff\@example.net> SMTPUTF8", '501 5.1.7', undef, '501 5.1.7'],
	['RET=FULL', $OK, '=', $UNKNOWN],
	['RET=hdrs', $OK, 'RET=HDRS', $UNKNOWN],
	['RET=ALL', $BAD, undef, $UNKNOWN],
	['RET', $BAD, undef, $UNKNOWN],
	['RET=FULL RET=HDRS', $BAD, undef, $UNKNOWN],
	['ENVID=QQ314159', $OK, '=', $UNKNOWN],
	['ENVID=a+2Bb+3dC;<>"', $OK, '=', $UNKNOWN],
	["ENVID=$LONG", $OK, '=', $UNKNOWN],
	["ENVID=${LONG}x", $BAD, undef, $UNKNOWN],
	['ENVID=', $BAD, undef, $UNKNOWN],
	['ENVID=a=b', $BAD, undef, $UNKNOWN],
	['ENVID=a+2', $BAD, undef, $UNKNOWN],
	['ENVID=a+0D+0ADATA', $BAD, undef, $UNKNOWN],
	['ENVID=a ENVID=a', $BAD, undef, $UNKNOWN],
	# Understood though AUTH is not offered; the back-end does not know us, so it hears nothing of it.
	['AUTH=<>', $OK, '', $OK, ''],
	['AUTH=ann+2Bx@example.net', $OK, '', $OK, ''],
	['AUTH', $BAD, undef, $BAD],
	['AUTH=', $BAD, undef, $BAD],
	['AUTH=a+0D+0AQUIT', $BAD, undef, $BAD],
	['AUTH=<> AUTH=<>', $BAD, undef, $BAD],
	['FOO', $UNKNOWN, undef, $UNKNOWN],
	['FOO=bar', $UNKNOWN, undef, $UNKNOWN],
	['SIZE=100 FOO=bar', $UNKNOWN, undef, $UNKNOWN],
	['NOTIFY=NEVER', $UNKNOWN, undef, $UNKNOWN],
	['REQUIRETLS', $UNKNOWN, undef, $UNKNOWN],
	['MT-PRIORITY=3', $UNKNOWN, undef, $UNKNOWN],
	['HOLDFOR=100', $UNKNOWN, undef, $UNKNOWN],
	['=x', $BAD, undef, $BAD],
	['-X=1', $BAD, undef, $BAD],
	["X\xc3\xb6=1", $BAD, undef, $BAD],
	# In our order, whatever it was.
	['AUTH=<> ENVID=x RET=HDRS SMTPUTF8 BODY=8BITMIME SIZE=100', $OK,
		'SIZE=100 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x', $UNKNOWN],
);
my @RCPT = (
	['', $OK, '', $OK, ''],
	(map { ["NOTIFY=$_", $OK, '=', $UNKNOWN] } 'NEVER', 'never', 'SUCCESS', 'Success,Failure', 'DELAY,FAILURE',
		'FAILURE,DELAY,SUCCESS'),
	(map { ["NOTIFY=$_", $BAD, undef, $UNKNOWN] } '', ',', 'NEVER,DELAY', 'DELAY,NEVER', 'DELAY,', ',DELAY',
		'DELAY,DELAY', 'ALWAYS', 'SUCCESS,delay,success', 'NEVER NOTIFY=NEVER'),
	(map { ["ORCPT=$_", $OK, '=', $UNKNOWN] } 'rfc822;Bob+2BX@example.org', 'RFC822;bob@example.org', 'x400;a;b',
		'utf-8;j\x{F6}rg@example.org', 'rfc822;' . 'x' x 493),
	(map { ["ORCPT=$_", $BAD, undef, $UNKNOWN] } '', 'rfc822', 'rfc822;', ';bob@example.org', 'rf(c;bob', 'rfc822;a+0Ab',
		'rfc822;a+4', 'rfc822;a=b', "utf-8;j\xc3\xb6rg\@example.org", 'rfc822;' . 'x' x 494,
		'rfc822;a ORCPT=rfc822;a'),
	['ORCPT=rfc822;bob@example.org NOTIFY=SUCCESS', $OK, 'NOTIFY=SUCCESS ORCPT=rfc822;bob@example.org', $UNKNOWN],
	["<$UTF8>", '553 5.6.7', undef, '553 5.6.7'],
	['SIZE=1', $UNKNOWN, undef, $UNKNOWN],
	['FOO', $UNKNOWN, undef, $UNKNOWN],
	['RRVS=2014-04-03T23:01:00Z', $UNKNOWN, undef, $UNKNOWN],
);
# In a transaction with SMTPUTF8.
my @RCPT_UTF8 = (
	["<$UTF8>", $OK, '='],
	["<$UTF8> NOTIFY=NEVER", $OK, '='],
	["ORCPT=utf-8;j\xc3\xb6rg\@example.org", $OK, '='],
	['ORCPT=utf-8;j\x{F6}rg@example.org', $OK, '='],
	["ORCPT=UTF-8;j\xc3\xb6rg\@example.org", $OK, '='],
	["ORCPT=rfc822;j\xc3\xb6rg\@example.org", $BAD],
	["ORCPT=utf-8;\xff\@example.org", $BAD],
	["<\xff\@example.org>", '501 5.1.3'],
);

# An address in front of the parameters, unless they bring one.
sub line
{
	my ($prefix, $address, $args) = @_;

	($address, $args) = ($1, $2) if $args =~ /^(<.*>)(?: |\z)(.*)\z/s;
	return "$prefix:$address" . ($args eq '' ? '' : " $args");
}

sub trouble
{
	my ($what, $got, $want) = @_;

	return () if defined $got && $got eq $want;
	return "$what: " . ($got // 'nothing') . " instead of $want";
}

# Code and enhanced code begin so.
sub reply_trouble
{
	my ($what, $reply, $want) = @_;
	my $got = $reply->code . ' ' . ($reply->enhanced // '-');

	return index($got, $want) == 0 ? () : "$what is answered " . $reply->raw . " instead of $want";
}

# The last line of this kind that the back-end got since then, without its verb.
sub heard
{
	my ($sink, $begin, $verb) = @_;

	return (substr($sink->events, $begin) =~ /^\d+ line $verb (.*)$/mg)[-1];
}

# The rest of a late transaction: then the back-end hears of it.
my $CONTENT = "Subject: parameters\r\n\r\n" . 'x' x 75 . "\r\n";

sub finish
{
	my ($c, $rcpt) = @_;

	$c->rcpt('b@example.org') == 250 or return 'RCPT is refused' if $rcpt;
	$c->data == 354 or return 'DATA is refused';
	$c->send(SmtpClient::stuffed($CONTENT));
	return reply_trouble('the message', $c->read_reply, '250');
}

# One row: MAIL, or RCPT behind this MAIL, at a back-end.
sub check
{
	my ($where, $envelope, $mail, $args, $want, $seen) = @_;
	my $sink = $sink{$where};
	my $c = $proxy->{"c_${where}_$envelope"} //= do {
		my $client = $proxy->client("${where}_$envelope");
		$client->ehlo;
		$client;
	};
	my ($verb, $line) = defined $mail ? ('RCPT', line('TO', '<b@example.org>', $args))
	    : ('MAIL', line('FROM', '<a@example.net>', $args));
	my $begin = length $sink->events;
	my @trouble;

	push @trouble, reply_trouble('MAIL', $c->command("MAIL $mail"), '250') if defined $mail;
	push @trouble, reply_trouble($line, $c->command("$verb $line"), $want);
	if ($want =~ /^2/ && !@trouble) {
		my $to_see = $seen eq '=' ? $line
		    : line($verb eq 'RCPT' ? ('TO', '<b@example.org>') : ('FROM', '<a@example.net>'), $seen);
		# The size is known then, whether or not the front gave one.
		$to_see =~ s/>(?: SIZE=\d+)?/> SIZE=100/ if $envelope eq 'late' && $verb eq 'MAIL' && $where eq 'all';
		push @trouble, finish($c, !defined $mail) if $envelope eq 'late';
		push @trouble, trouble('the back-end heard', heard($sink, $begin, $verb), $to_see);
	} elsif (defined heard($sink, $begin, $verb)) {
		push @trouble, "the back-end heard of $line";
	}
	push @trouble, reply_trouble('RSET', $c->rset, '250 2.0.0');
	return map { "$where, $envelope: $_" } @trouble;
}

sub name { return ($_[0] eq '' ? 'none' : $_[0]) =~ s/x{9,}/x.../r =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger }

for my $envelope (qw(early late)) {
	for my $row (@MAIL) {
		my ($args, $reply, $seen, $reply_none, $seen_none) = @$row;
		my @trouble = (check('all', $envelope, undef, $args, $reply, $seen),
			check('none', $envelope, undef, $args, $reply_none, $seen_none));
		is join("\n", @trouble), '', "$envelope, MAIL: " . name($args);
	}
	for my $row (@RCPT) {
		my ($args, $reply, $seen, $reply_none, $seen_none) = @$row;
		my @trouble = (check('all', $envelope, 'FROM:<a@example.net>', $args, $reply, $seen),
			check('none', $envelope, 'FROM:<a@example.net>', $args, $reply_none, $seen_none));
		is join("\n", @trouble), '', "$envelope, RCPT: " . name($args);
	}
	for my $row (@RCPT_UTF8) {
		my @trouble = check('all', $envelope, 'FROM:<a@example.net> SMTPUTF8', @$row);
		is join("\n", @trouble), '', "$envelope, RCPT with SMTPUTF8: " . name($row->[0]);
	}
}

# ---- what is offered, and what becomes of it -----------------------------------------------

sub offers { my ($where) = @_; my $c = $proxy->client($where); $c->ehlo; return join ', ', @{ $c->caps } }

is offers('all_early'), 'PIPELINING, SIZE 1000000, ENHANCEDSTATUSCODES, 8BITMIME, DSN, SMTPUTF8, CHUNKING',
    'AUTH is not offered, what else the back-end offers is';
is offers('none_late'), 'PIPELINING, SIZE 52428800, ENHANCEDSTATUSCODES, CHUNKING',
    'without 8BITMIME, DSN and SMTPUTF8 at the back-end they are not';
{
	my $c = $proxy->client('all_early');
	$c->ehlo;
	is $c->command($_)->code, 502, "$_ is not" for 'AUTH PLAIN AGEAYg==', 'AUTH LOGIN', 'AUTH';
}

for my $envelope (qw(early late)) {
	subtest "$envelope: the back-end has lost what was offered" => sub {
		my $lossy = SmtpSink->start(caps => \@ALL);
		my $front = TestProxy->start(<<"CONF");
listener front { listen 127.0.0.1:0; backend inner; envelope $envelope }
backend inner { hosts @{[ $lossy->addr ]}; max_idle 0 }
CONF
		$front->wait_log(qr/backend=inner state=up/) or die 'no back-end';
		my $c = $front->client;
		$c->ehlo;
		$lossy->script(ehlo => "250 sink.example\nPIPELINING");
		my %lost = (SMTPUTF8 => '451 4.6.7', 'BODY=8BITMIME' => '451 4.6.3');
		for my $param (sort keys %lost) {
			is join("\n", reply_trouble($param, $c->send_message(mail_params => $param), $lost{$param})), '',
			    "$param: the message is to come again";
			$c->rset;
		}
		is $lossy->count, 0, 'nothing is sent as what it is not';
		is $c->send_message(content => "Subject: x\r\n\r\n\xe4\xf6\xfc\r\n"), 250, '8-bit octets without BODY= pass';
		like $lossy->txn(-1)->{content}, qr/\r\n\r\n\xe4\xf6\xfc\r\n\z/, 'unchanged';
	};
}

{
	my $c = $proxy->client('none_early');
	is $c->send_message(content => "Subject: \xc3\xa9\r\n\r\n" . join('', map { chr } 128 .. 255) . "\r\n"), 250,
	    'a back-end without 8BITMIME gets 8-bit octets';
	is $sink{none}->txn(-1)->{content}, "Subject: \xc3\xa9\r\n\r\n" . join('', map { chr } 128 .. 255) . "\r\n",
	    'as they are';
}

subtest 'the Received line says that SMTPUTF8 was used' => sub {
	my $front = TestProxy->start(<<"CONF");
listener front { listen 127.0.0.1:0; backend inner }
backend inner { hosts @{[ $sink{all}->addr ]} }
CONF
	$front->wait_log(qr/backend=inner state=up/) or die 'no back-end';
	is $front->client->send_message(mail_params => $_), 250, 'a message passes' for 'SMTPUTF8', 'SIZE=10';
	like $sink{all}->txn(-2)->{content}, qr/ with UTF8SMTP id /, 'with UTF8SMTP';
	like $sink{all}->txn(-1)->{content}, qr/ with ESMTP id /, 'and without it ESMTP';
};

is $proxy->stop, 0, 'postern ends in good order';
done_testing;
