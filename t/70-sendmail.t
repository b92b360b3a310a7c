#!/usr/bin/perl
# A real sendmail in front of Postern, and a real Postfix or another sendmail behind it, with the very files of
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
	my ($back, $file) = @_;
	my $conf = read_file(srcdir() . '/contrib/sendmail/' . ($file // 'postern.conf'));

	$conf =~ s/^user postern/user nobody/m or die 'no user';
	$conf =~ s/127\.0\.0\.1:10025/127.0.0.1:0/ or die 'no listener';
	$conf =~ s/(\bhosts )\S+/$1$back/ or die 'no back-end';
	$conf =~ s{/var/spool/postern}{%d/spool} or die 'no spool';
	return $conf;
}

# Messages that went through. A back-end may put one off, which is another line.
sub accepted { my ($proxy) = @_; return scalar grep { ($_->{code} // '') eq '250' } $proxy->summaries }

subtest 'by mailertable to Postfix' => sub {
	my $back = MtaPostfix->new->start;
	my $proxy = TestProxy->start(postern_conf($back->addr));
	my $front = MtaSendmail->new->start(filter => $proxy->addr);
	my $c = SmtpClient->connect($front->addr);

	is($front->mailer_for('ann@example.org'), 'mailer filter, host [127.0.0.1]', 'address test mode shows the way through Postern');
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
	ok((wait_until { accepted($proxy) == 2 }), 'both have their summary line');
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

subtest 'Postern as the smart host' => sub {
	my $sink = SmtpSink->start;
	my $proxy = TestProxy->start(postern_conf($sink->addr, 'smarthost.postern.conf'));
	my $mta = MtaSendmail->new(recipe => 'smarthost', local => ['here.example'])->start(filter => $proxy->addr);
	my $c = SmtpClient->connect($mta->addr);

	is($mta->mailer_for('ann@example.org'), 'mailer filter, host [127.0.0.1]', 'address test mode shows the way through Postern');
	is($c->send_message(to => 'ann@example.org', content => "Subject: one\r\n\r\n$body"), 250,
		'sendmail takes a message for somebody outside');
	ok($sink->wait_count(1, 20), 'it reaches the next server') or diag($mta->queue, $proxy->log);
	like($sink->txn(0)->{content}, qr/^Received: .*\r\n\s+by \S+ \(Postern\).*\r\n\r\n\Q$body\E\z/ms, 'through Postern, with the same body');
	is($c->send_message(to => 'daemon@here.example', content => "Subject: two\r\n\r\n$body"), 250, 'and one for a user of its own');
	ok((wait_until { $mta->delivered('daemon') =~ /^Subject: two$/m } 20), 'is delivered') or diag($mta->queue, $mta->log);
	ok((wait_until { accepted($proxy) == 1 }), 'not through Postern');
	ok((wait_until { $mta->is_empty }), 'and nothing stays in the queue');
};

subtest 'two sendmails on one machine' => sub {
	my $sink = SmtpSink->start;	# the world outside
	my $outside = "define(`SMART_HOST', `esmtp:[127.0.0.1]')dnl\ndefine(`ESMTP_MAILER_ARGS', `TCP \$h " . $sink->port . "')dnl\n";
	my $tx = MtaSendmail->new(recipe => 'tx', local => ['here.example'], lines => $outside)->start;
	my $proxy = TestProxy->start(postern_conf($tx->addr));
	my $rx = MtaSendmail->new(recipe => 'rx', local => ['here.example'])->start(filter => $proxy->addr);
	my $c = SmtpClient->connect($rx->addr);

	# From where, to whom, and where it must come out.
	is($c->send_message(to => 'daemon@here.example', content => "Subject: in\r\n\r\n$body"), 250, 'mail for a user of the machine is taken');
	ok((wait_until { $tx->delivered('daemon') =~ /^Subject: in$/m } 20), 'the second delivers it')
	    or diag($rx->queue, $tx->queue, $proxy->log, $tx->log);
	like($tx->delivered('daemon'), qr/\n\n\Q@{[ $body =~ s{\r\n}{\n}gr ]}\E\s*\z/, 'its body is the same');
	is($rx->delivered('daemon'), '', 'the first delivers nothing itself');
	is($c->send_message(to => 'ann@example.org', content => "Subject: out\r\n\r\n$body"), 250, 'so is mail for somebody outside');
	ok($sink->wait_count(1, 20), 'the second sends it out') or diag($rx->queue, $tx->queue, $proxy->log);
	is((wait_until { ($proxy->summaries)[0] })->{to}, '<daemon@here.example>', 'local addresses keep their domain for the rules of Postern');
	is($rx->submit('joe@here.example', 'daemon', "Subject: command\n\nby command\n"), 0, 'a program of the machine hands over mail');
	ok((wait_until { $tx->delivered('daemon') =~ /^Subject: command$/m } 20), 'the second delivers it')
	    or diag($rx->queue, $tx->queue, $proxy->log);
	ok((wait_until { accepted($proxy) == 3 }), 'all of it came through Postern') or diag($proxy->log);
	ok((wait_until { $rx->is_empty && $tx->is_empty }), 'nothing stays in either queue');

	is($c->send_message(to => 'nobody-here@here.example'), 250, 'for a user who is not there it takes mail, too');
	ok($proxy->wait_log(qr/ rcpt to=<nobody-here\@here\.example> code=550 /), 'the second refuses it, in its words') or diag($proxy->log, $rx->queue);
	ok(!IO::Socket::INET->new(PeerAddr => $tx->addr =~ s/^127\.0\.0\.1:/127.0.0.2:/r, Proto => 'tcp'), 'the way back is closed to other addresses');

	$tx->stop;
	my $n = $sink->count;
	is($c->send_message(to => 'bob@example.org'), 250, 'with the second one stopped the first takes mail');
	ok($proxy->wait_log(qr/ msg .*verdict=tempfail code=451/), 'and keeps it');
	$tx->start;
	ok($sink->wait_count($n + 1, 30), 'until it is back') or diag($rx->queue, $tx->queue, $proxy->log);
};

done_testing;
