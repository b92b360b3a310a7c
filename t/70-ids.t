#!/usr/bin/perl
# One id joins the logs of a real front, of Postern and of a real back-end: whichever is looked for
# finds the others.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use MtaPostfix;
use MtaSendmail;
use SmtpClient;
use TestProxy;
use TestUtil;

plan skip_all => MtaPostfix->unavailable if MtaPostfix->unavailable;

my $conf = <<'CONF';
hostname filter.localhost
listener front { listen 127.0.0.1:0; backend inner }
backend inner { hosts BACK }
CONF

# Lines of a log that have a word, as grep -w finds them.
sub lines_of { my ($log, $word) = @_; return grep { /(?<![\w.-])\Q$word\E(?![\w-])/ } split /\n/, $log }

# Waits for a line of a log that has a word and is of a sort.
sub wait_line
{
	my ($mta, $log, $word, $sort) = @_;

	return wait_until { my ($line) = grep { /$sort/ } lines_of($mta->$log, $word); $line };
}

# Postern's summary and our Received line in the message, which its header begins with.
sub postern_is
{
	my ($proxy, $message) = @_;
	my $line = $proxy->wait_summary(1) or return fail('there is a summary');
	my ($session, $txn) = $message =~ /^Received: [^;]*?\(Postern\)\s+with \w+ id ([0-9a-f]+)-(\d+)\./m;

	is("$session $txn", "$line->{s} $line->{t}", 'session and transaction are in our Received line');
	ok($proxy->wait_log(qr/ s=$line->{s} disconnect /), 'the session ends');
	is(scalar(my @all = lines_of($proxy->log, $session)), 3, 'and all lines of the session have it');
	return $line;
}

subtest 'Postfix on both sides, after its queue' => sub {
	my $mta = MtaPostfix->new(recipe => 'content_filter');
	my $proxy = TestProxy->start($conf =~ s/BACK/$mta->return_addr/er);
	$mta->start(filter => $proxy->addr);
	my $c = SmtpClient->connect($mta->addr);

	my $reply = $c->send_message(to => 'ann@example.org', content => "Subject: ids\r\n\r\nx\r\n");
	is($reply, 250, 'Postfix takes a message');
	$c->quit;
	my ($front) = $reply->text =~ /queued as (\w+)/;
	my ($message) = $mta->wait_messages(1);
	my $line = postern_is($proxy, $message);

	is($line->{front}, $front, 'front= is what Postfix told its client');
	like(wait_line($mta, log => $front, qr/ status=/), qr/ status=sent \(250 2\.0\.0 Ok: queued as \Q$line->{back}\E\)/,
		'the front\'s log has the back-end\'s id, through our reply');
	ok(wait_line($mta, log => $line->{back}, qr/ $line->{back}: to=<ann\@example\.org>.* status=sent/),
		'with which the back-end\'s log goes on');
};

subtest 'before the queue of Postfix' => sub {
	my $mta = MtaPostfix->new(recipe => 'proxy_filter');
	my $proxy = TestProxy->start($conf =~ s/BACK/$mta->return_addr/er);
	$mta->start(filter => $proxy->addr);
	my $c = SmtpClient->connect($mta->addr);

	my $reply = $c->send_message(to => 'ann@example.org');
	is($reply, 250, 'Postfix takes a message');
	my $line = $proxy->wait_summary(1);
	ok(!exists $line->{front}, 'the front has no id before its queue');
	like($reply->text, qr/queued as \Q$line->{back}\E$/, 'its client is told the back-end\'s');
	ok(wait_line($mta, log => $line->{back}, qr/ status=sent/), 'whose log goes on with it');
};

subtest 'sendmail in front, Postfix behind' => sub {
	plan skip_all => MtaSendmail->unavailable if MtaSendmail->unavailable;
	my $back = MtaPostfix->new->start;
	my $proxy = TestProxy->start($conf =~ s/BACK/$back->addr/er);
	my $front = MtaSendmail->new(syslog => 1)->start(filter => $proxy->addr);
	my $c = SmtpClient->connect($front->addr);

	my $reply = $c->send_message(to => 'ann@example.org', content => "Subject: ids\r\n\r\nx\r\n");
	is($reply, 250, 'sendmail takes a message');
	$c->quit;
	my ($id) = $reply->text =~ /^2\.0\.0 (\w+) Message accepted/;
	my ($message) = $back->wait_messages(1);
	my $line = postern_is($proxy, $message);

	is($line->{front}, $id, 'front= is what sendmail told its client');
	like(wait_line($front, syslog => $id, qr/ stat=/), qr/ stat=Sent \(Ok: queued as \Q$line->{back}\E\)/, 'its log has the back-end\'s id, through our reply')
	    or diag $front->syslog;
	ok(wait_line($back, log => $line->{back}, qr/ $line->{back}: to=<ann\@example\.org>.* status=sent/),
		'with which the back-end\'s log goes on');

	is($front->submit('joe@example.net', 'bob@example.org', "Subject: two\n\nby command\n"), 0, 'a program hands over mail');
	my $second = $proxy->wait_summary(2);
	ok(wait_line($front, syslog => $second->{front} // 'none', qr/ stat=Sent/), 'its id is found, too');
};

done_testing;
