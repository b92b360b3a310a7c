#!/usr/bin/perl
# A real Postfix around Postern, with the very files of contrib/postfix.
use strict;
use warnings;
use Test::More;
use MtaPostfix;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => MtaPostfix->unavailable if MtaPostfix->unavailable;

my $content = "Subject: one\r\nFrom: <a\@example.net>\r\nDate: Sun, 22 Nov 2020 12:00:00 +0000\r\n"
    . "Message-ID: <1\@example.net>\r\n\r\n.a dot\r\n\r\n" . 'x' x 900 . "\r\nend\r\n";

# The configuration that lies beside the recipe, with our ports and folders.
sub postern_conf
{
	my ($recipe, $back) = @_;
	my $conf = read_file(srcdir() . "/contrib/postfix/$recipe.postern.conf");

	$conf =~ s/^user postern/user nobody/m or die 'no user';
	$conf =~ s/127\.0\.0\.1:10025/127.0.0.1:0/ or die 'no listener';
	$conf =~ s/(\bhosts )\S+/$1$back/ or die 'no back-end';
	$conf =~ s{/var/spool/postern}{%d/spool} or die 'no spool';
	return $conf;
}

sub start_pair
{
	my ($recipe, %opt) = @_;
	my ($more, $back) = delete @opt{qw(backend back)};
	my $mta = MtaPostfix->new(recipe => $recipe, %opt);
	my $conf = postern_conf($recipe, $back // $mta->return_addr);
	$conf =~ s/^(\s*hosts\b.*)$/$1\n$more/m or die 'no hosts' if defined $more;
	my $proxy = TestProxy->start($conf);

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

# Nobody but this machine may use the way back: it listens at one address of it, and takes mail from nobody else.
my $may_pretend = "smtpd_authorized_xclient_hosts = 127.0.0.0/8\n";
sub is_closed
{
	my ($mta) = @_;
	my $other = $mta->return_addr =~ s/^127\.0\.0\.1:/127.0.0.2:/r;

	ok(!IO::Socket::INET->new(PeerAddr => $other, Proto => 'tcp'), 'the way back is closed to other addresses');
	my $c = SmtpClient->connect($mta->return_addr);
	$c->ehlo;
	is($c->command('XCLIENT ADDR=192.0.2.66 NAME=stranger.example'), 220, 'one who comes from elsewhere');
	$c->ehlo;
	$c->mail('joe@example.net');
	is($c->rcpt('ann@example.org'), 554, 'may not send there');
	return;
}

subtest 'content_filter' => sub {
	my ($mta, $proxy) = start_pair('content_filter', main => $may_pretend);

	passes($mta, $proxy);
	is_closed($mta);
	ok((wait_until { $mta->is_empty }), 'and nothing stays in the queue');

	$proxy->stop;
	is(SmtpClient->connect($mta->addr)->send_message(content => $content), 250,
		'with Postern down Postfix still takes mail');
	ok($mta->wait_log(qr/status=deferred/), 'and keeps it');
	$proxy->restart;
	$mta->flush;
	is(scalar(my @all = $mta->wait_messages(3)), 3, 'until Postern is back') or diag($mta->log);
};

subtest 'content_filter, by BDAT' => sub {
	my ($mta, $proxy) = start_pair('content_filter', backend => 'chunking yes');

	passes($mta, $proxy);
	my $c = SmtpClient->connect($mta->addr);
	is($c->send_message(content => $content . ('y' x 70 . "\r\n") x 5000), 250, 'and a large one');
	$c->quit;
	ok((wait_until { $mta->is_empty && $mta->wait_messages(3) }), 'arrives');
	# So Postfix answers BDAT LAST only.
	my @chunked;
	wait_until { 2 == (@chunked = $proxy->log =~ / msg .*reply="250 [^"]*\d+ bytes queued as/g) };
	is(scalar @chunked, 2, 'Postfix got both by BDAT') or diag($proxy->log);
};

for my $speed_adjust (0, 1) {
	my $title = $speed_adjust ? 'with speed_adjust' : 'without speed_adjust';
	subtest "smtpd_proxy_filter $title" => sub {
		my ($mta, $proxy) = start_pair('proxy_filter', main => $may_pretend, speed_adjust => $speed_adjust);

		passes($mta, $proxy);
		is_closed($mta);
		$proxy->stop;
		is(SmtpClient->connect($mta->addr)->send_message(content => $content), 451,
			'with Postern down the client is told to come again');
		is(scalar(my @all = $mta->messages), 2, 'and nothing gets past it');
	};
}

subtest 'relayhost' => sub {
	my $sink = SmtpSink->start;
	my ($mta, $proxy) = start_pair('relayhost', back => $sink->addr);
	my $c = SmtpClient->connect($mta->addr);

	is($c->send_message(to => ['ann@example.org', 'bob@example.com'], content => $content), 250, 'Postfix takes a message');
	ok($sink->wait_count(1), 'it reaches the next server') or diag($mta->log, $proxy->log);
	is(scalar @{ $sink->txn(0)->{rcpt} }, 2, 'for both domains');
	like($sink->txn(0)->{content}, qr/^Received: .*\r\n\s+by \S+ \(Postern\)/m, 'through Postern');
	like($sink->txn(0)->{content}, qr/\r\n\r\n\.a dot\r\n.*end\r\n\z/s, 'as it was');
	$sink->stop;
	is($c->send_message(content => $content), 250, 'while that server is away Postfix still takes mail');
	ok($mta->wait_log(qr/status=deferred .*451 4\.4\.1/), 'and keeps it, as Postern tells it to');
	$sink->restart;
	$mta->flush;
	ok($sink->wait_count(2, 20), 'until it is back') or diag($mta->log);
	ok((wait_until { $mta->is_empty }), 'nothing stays in the queue');
};

subtest 'transport' => sub {
	my $sink = SmtpSink->start(rcpt => ['250 2.1.5 known', '550 5.1.1 no such user', '250 2.1.5 known']);
	# Its clients are strangers.
	my ($mta, $proxy) = start_pair('transport', back => $sink->addr,
		main => "mynetworks = 127.9.9.9\nsmtpd_relay_restrictions =\naddress_verify_poll_delay = 1s\nsmtp_connection_cache_on_demand = no\n");
	my $c = SmtpClient->connect($mta->addr);

	$c->ehlo;
	$c->mail('joe@example.net');
	# The answer may be there only when it is asked for again.
	my $ask = sub { my ($to) = @_; return wait_until { my $r = $c->rcpt($to); $r != 450 && $r } 20 };
	is($ask->('ann@example.org'), 250, 'Postfix takes a recipient that the server knows');
	my $refused = $ask->('nobody@example.org');
	is($refused, 550, 'refuses one that it does not know') or diag($mta->log, $proxy->log);
	like($refused->text, qr/no such user/, 'in the words of the server');
	is($c->rcpt('ann@example.com'), 554, 'and one of another domain');
	is($sink->count, 0, 'asking leaves no mail');
	$c->data;
	$c->send(SmtpClient::stuffed($content));
	is($c->read_reply, 250, 'the message is taken');
	ok($sink->wait_count(1), 'and reaches the server') or diag($mta->log, $proxy->log);
	like($sink->txns ? ($sink->messages)[0]{content} : '', qr/^Received: .*\r\n\s+by \S+ \(Postern\)/m, 'through Postern');
};

done_testing;
