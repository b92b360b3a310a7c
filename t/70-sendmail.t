#!/usr/bin/perl
# A real sendmail in front of Postern and a real Postfix behind it, with the very files of
# contrib/sendmail.
use strict;
use warnings;
use Test::More;
use MtaPostfix;
use MtaSendmail;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

my $why = MtaSendmail->unavailable // MtaPostfix->unavailable;
plan skip_all => $why if $why;

my $body = ".a dot\r\n\r\n" . 'x' x 900 . "\r\nend\r\n";

sub postern_conf
{
	my ($back) = @_;
	my $conf = read_file(srcdir() . '/contrib/sendmail/postern.conf');

	$conf =~ s/^user postern/user nobody/m or die 'no user';
	$conf =~ s/127\.0\.0\.1:10025/127.0.0.1:0/ or die 'no listener';
	$conf =~ s/127\.0\.0\.1:10026/$back/ or die 'no back-end';
	$conf =~ s{/var/spool/postern}{%d/spool} or die 'no spool';
	return $conf;
}

subtest 'by mailertable to Postfix' => sub {
	my $back = MtaPostfix->new->start;
	my $proxy = TestProxy->start(postern_conf($back->addr));
	my $front = MtaSendmail->new->start(filter => $proxy->addr);
	my $c = SmtpClient->connect($front->addr);

	is($c->send_message(to => 'ann@example.org', content => "Subject: one\r\n\r\n$body"), 250,
		'sendmail takes a message');
	$c->quit;
	my ($message) = $back->wait_messages(1);
	like($message, qr/\n\n\Q@{[ $body =~ s{\r\n}{\n}gr ]}\E\z/, 'it arrives with the same body')
	    or diag($front->queue, $proxy->log, $back->log);
	like($message, qr/^Received: .*\n\s+by \S+ \(Postern\)/m, 'it bears our Received line');
	is($front->submit('joe@example.net', 'bob@sub.example.org', "Subject: two\n\nby command\n"), 0,
		'a program hands over mail for a sub-domain');
	is(scalar(my @both = $back->wait_messages(2)), 2, 'it arrives too') or diag($front->queue);
	is(scalar(my @lines = $proxy->summaries), 2, 'both have their summary line');
	ok((wait_until { $front->is_empty }), 'and nothing stays in the queue');
};

subtest 'while the back-end is away' => sub {
	my $sink = SmtpSink->start;
	my $proxy = TestProxy->start(postern_conf($sink->addr));
	my $front = MtaSendmail->new->start(filter => $proxy->addr);

	$sink->stop;
	is(SmtpClient->connect($front->addr)->send_message(to => 'ann@example.org'), 250,
		'sendmail takes a message');
	ok($proxy->wait_log(qr/ msg .*verdict=\S+ code=4\d\d/), 'Postern answers with a 4xx');
	is($sink->count, 0, 'nothing was delivered');
	$sink->restart;
	ok($sink->wait_count(1, 30), 'it comes when the back-end is back')
	    or diag($front->queue, $proxy->log);
	is($sink->count, 1, 'once');
};

subtest 'a second sendmail behind Postern' => sub {
	my $sink = SmtpSink->start;
	my $lines = "define(`SMART_HOST', `esmtp:[127.0.0.1]')dnl\n"
	    . "define(`ESMTP_MAILER_ARGS', `TCP \$h " . $sink->port . "')dnl\n";
	my $back = MtaSendmail->new(recipe => 'back', lines => $lines)->start;
	my $proxy = TestProxy->start(postern_conf($back->addr));
	my $front = MtaSendmail->new->start(filter => $proxy->addr);

	is(SmtpClient->connect($front->addr)->send_message(to => 'ann@example.org',
		content => "Subject: one\r\n\r\n$body"), 250, 'the first takes a message');
	ok($sink->wait_count(1, 20), 'the second delivers it')
	    or diag($front->queue, $back->queue, $proxy->log);
	like($sink->txn(0)->{content}, qr/\r\n\r\n\Q$body\E\z/, 'its body is the same');
};

done_testing;
