#!/usr/bin/perl
# A real Postfix around Postern, with the very files of contrib/postfix.
use strict;
use warnings;
use Test::More;
use MtaPostfix;
use SmtpClient;
use TestProxy;
use TestUtil;

plan skip_all => MtaPostfix->unavailable if MtaPostfix->unavailable;

my $content = "Subject: one\r\nFrom: <a\@example.net>\r\nDate: Sun, 22 Nov 2020 12:00:00 +0000\r\n"
    . "Message-ID: <1\@example.net>\r\n\r\n.a dot\r\n\r\n" . 'x' x 900 . "\r\nend\r\n";

# The configuration that lies beside the recipe, with our ports and folders.
sub postern_conf
{
	my ($recipe, $mta) = @_;
	my $conf = read_file(srcdir() . "/contrib/postfix/$recipe.postern.conf");

	$conf =~ s/^user postern/user nobody/m or die 'no user';
	$conf =~ s/127\.0\.0\.1:10025/127.0.0.1:0/ or die 'no listener';
	$conf =~ s/127\.0\.0\.1:10026/$mta->return_addr/e or die 'no back-end';
	$conf =~ s{/var/spool/postern}{%d/spool} or die 'no spool';
	return $conf;
}

sub start_pair
{
	my ($recipe, %opt) = @_;
	my $mta = MtaPostfix->new(recipe => $recipe, %opt);
	my $proxy = TestProxy->start(postern_conf($recipe, $mta));

	$mta->start(filter => $proxy->addr);
	return ($mta, $proxy);
}

# One message comes out at the other end as it went in, through Postern.
sub passes
{
	my ($mta, $proxy) = @_;
	my $c = SmtpClient->connect($mta->addr);

	is($c->send_message(to => ['ann@example.org', 'bob@example.org'], content => $content), 250,
		'Postfix takes a message');
	$c->quit;
	my @messages = $mta->wait_messages(2);
	is(scalar @messages, 2, 'it arrives for both recipients') or diag($mta->log, $proxy->log);
	my ($body) = $messages[0] =~ /\n\n(.*)\z/s;
	is($body, ($content =~ s/\r\n/\n/gr) =~ s/.*?\n\n//sr, 'its body is the same');
	like($messages[0], qr/^Received: .*\n\s+by \S+ \(Postern\)/m, 'it bears our Received line');
	ok($proxy->wait_log(qr/ msg .*verdict=pass code=250/), 'and the summary line says so');
	return;
}

subtest 'content_filter' => sub {
	my ($mta, $proxy) = start_pair('content_filter');

	passes($mta, $proxy);
	ok((wait_until { $mta->is_empty }), 'and nothing stays in the queue');

	$proxy->stop;
	is(SmtpClient->connect($mta->addr)->send_message(content => $content), 250,
		'with Postern down Postfix still takes mail');
	ok($mta->wait_log(qr/status=deferred/), 'and keeps it');
	$proxy->restart;
	$mta->flush;
	is(scalar(my @all = $mta->wait_messages(3)), 3, 'until Postern is back') or diag($mta->log);
};

for my $speed_adjust (0, 1) {
	my $title = $speed_adjust ? 'with speed_adjust' : 'without speed_adjust';
	subtest "smtpd_proxy_filter $title" => sub {
		my ($mta, $proxy) = start_pair('proxy_filter', speed_adjust => $speed_adjust);

		passes($mta, $proxy);
		$proxy->stop;
		is(SmtpClient->connect($mta->addr)->send_message(content => $content), 451,
			'with Postern down the client is told to come again');
		is(scalar(my @all = $mta->messages), 2, 'and nothing gets past it');
	};
}

done_testing;
