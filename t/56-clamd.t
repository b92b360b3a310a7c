#!/usr/bin/perl
# The filter clamd before a real one: what is found, both ways of giving it the message, and its connections.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use Clamd;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};
plan skip_all => 'clamd is not installed' unless Clamd->find;

my $sink = SmtpSink->start;
my $clamd = Clamd->start('StreamMaxLength 40M', 'MaxFileSize 60M', 'MaxScanSize 60M', 'IdleTimeout 60');
my $clean = "Subject: clean\r\nX-Virus: forged\r\n\r\nnothing here\r\n";
my $ill = "Subject: ill\r\n\r\n$Clamd::EICAR\r\n";

sub proxy
{
	my ($conf, %opt) = @_;

	return TestProxy->start(<<"CONF", %opt);
workers @{[ $opt{workers} // 1 ]}
listener front { listen 127.0.0.1:0; backend inner; received no }
listener traced { listen 127.0.0.1:0; backend inner }
backend inner { hosts @{[ $sink->addr ]} }
default_chain virus
$conf
CONF
}

# Reply and, where it was delivered, what the back-end got.
sub sent
{
	my ($proxy, $content, %opt) = @_;
	my $before = $sink->count;
	my $reply = $proxy->client($opt{listener})->send_message(content => $content, to => $opt{to} // 'r@example.org');

	return ($reply, $sink->count == $before ? undef : ($sink->messages)[-1]{content});
}

my %ways = (
	fildes => "socket @{[ $clamd->unix ]}",
	instream => "socket @{[ $clamd->addr ]}",
	'instream over a Unix socket' => "socket @{[ $clamd->unix ]}; transfer instream",
	'instream without sessions' => "socket @{[ $clamd->addr ]}; max_idle 0",
	'fildes without sessions' => "socket @{[ $clamd->unix ]}; max_idle 0",
);

for my $way (sort keys %ways) {
	my $proxy = proxy("clamd virus { $ways{$way} }");

	for my $listener ('front', 'traced') {
		my ($reply, $got) = sent($proxy, $clean, listener => $listener);
		is($reply, 250, "$way, $listener: a clean message passes");
		like($got, qr/\Q$clean\E\z/, "$way, $listener: as it was");

		($reply, $got) = sent($proxy, $ill, listener => $listener);
		is($reply->raw, "550 5.7.1 the message contains $Clamd::NAME\r\n", "$way, $listener: a virus is refused by its name");
		is($got, undef, "$way, $listener: and not delivered");
	}
	is((sent($proxy, ''))[0], 250, "$way: a message of no octets passes");

	# In a file of the spool, with the virus at its end; with our Received line it is an edited one.
	for my $listener ('front', 'traced') {
		my $large = "Subject: large\r\n\r\n" . ('x' x 70 . "\r\n") x 50000;
		is((sent($proxy, $large, listener => $listener))[0], 250, "$way, $listener: a large clean one passes");
		is((sent($proxy, $large . $Clamd::EICAR . "\r\n", listener => $listener))[0], 550,
			"$way, $listener: a large one with a virus at its end does not");
	}
	ok($proxy->wait_log(qr/ virus filter=virus virus=\Q$Clamd::NAME\E\n/), "$way: the log names it");
}

subtest 'what the administrator wants for a find' => sub {
	my %answers = (
		'verdict reject; code 554; status 5.7.0; text "go away"' => qr/^554 5\.7\.0 go away/,
		'verdict discard' => qr/^250 /,
		'verdict quarantine' => qr/^250 /,
		'verdict tempfail' => qr/^451 4\.7\.1 the message contains \Q$Clamd::NAME\E/,
		'verdict disconnect' => qr/^421 /,
	);
	for my $answer (sort keys %answers) {
		my ($reply, $got) = sent(proxy("quarantine { directory %d/q }\nclamd virus { socket @{[ $clamd->unix ]}; $answer }"), $ill);
		like($reply->raw, $answers{$answer}, $answer);
		is($got, undef, "$answer: it is not delivered");
	}
};

subtest 'the quarantine' => sub {
	my $proxy = proxy("quarantine { directory %d/q }\nclamd virus { socket @{[ $clamd->unix ]}; verdict quarantine }");

	sent($proxy, $ill);
	my ($entry) = grep { !m{/tmp$} } glob $proxy->dir . '/q/*';
	like(read_file("$entry/metadata.json"), qr/the message contains \Q$Clamd::NAME\E/, 'knows what was found');
};

subtest 'a mark' => sub {
	my $proxy = proxy("clamd virus { socket @{[ $clamd->unix ]}; verdict pass; mark X-Virus }");

	is((sent($proxy, $clean))[1], $clean =~ s/forged/clean/r, 'tells of a clean message, and those that came are gone');
	is((sent($proxy, $ill))[1], $ill =~ s/ill\r\n\K/X-Virus: infected ($Clamd::NAME)\r\n/r, 'names what was found');
};

# Only a stream has a limit of its own.
subtest 'more than StreamMaxLength' => sub {
	my $small = Clamd->start('StreamMaxLength 1M');
	my $large = "Subject: large\r\n\r\n" . ('x' x 70 . "\r\n") x 100000;
	my %cases = (
		fail => [ 451, qr/is larger than its StreamMaxLength/ ],
		reject => [ 552, undef ],
		pass => [ 250, undef ],
	);

	for my $case (sort keys %cases) {
		my $proxy = proxy("clamd virus { socket @{[ $small->addr ]}; oversize $case }");

		is((sent($proxy, $large))[0], $cases{$case}[0], "oversize $case");
		ok($proxy->wait_log($cases{$case}[1]), "oversize $case: the log says why") if $cases{$case}[1];
		is((sent($proxy, $clean))[0], 250, "oversize $case: the next message passes");
	}
};

subtest 'connections' => sub {
	my $own = Clamd->start;
	my $opened = sub { my @all = $own->log =~ /Got new connection/g; return scalar @all };

	for my $to ($own->unix, $own->addr) {
		my $proxy = proxy("clamd virus { socket $to }");

		is((sent($proxy, $clean))[0], 250, "$to: a message");
		my $before = $opened->();
		is((sent($proxy, $_ % 2 ? $clean : $ill))[0], $_ % 2 ? 250 : 550, "$to: and one more") for 1 .. 10;
		is($opened->(), $before, "$to: all by one connection");
		$own->restart;
		is((sent($proxy, $_ % 2 ? $clean : $ill))[0], $_ % 2 ? 250 : 550, "$to: clamd is another one, nobody notices")
		    for 1 .. 3;
		$own->stop;
		like((sent($proxy, $clean))[0]->raw, qr/^451 /, "$to: without a clamd mail waits");
		$own->run;
		is((sent($proxy, $clean))[0], 250, "$to: and passes when it is back");
		is($proxy->reload, 'done', "$to: a reload");
		is((sent($proxy, $clean))[0], 250, "$to: after it mail passes");
	}
};

subtest '200 messages at once' => sub {
	my $proxy = proxy("clamd virus { socket @{[ $clamd->unix ]} @{[ $clamd->addr ]}; balance round-robin }", workers => 2);
	my @clients = map { $proxy->client } 1 .. 200;

	for my $c (@clients) {
		$c->ehlo;
		$c->mail('s@example.net');
		$c->rcpt('r@example.org');
		$c->data;
	}
	$clients[$_]->send(($_ % 2 ? $clean : $ill) . ".\r\n") for 0 .. $#clients;
	my @wrong = grep { $clients[$_]->read_reply != ($_ % 2 ? 250 : 550) } 0 .. $#clients;
	is("@wrong", '', 'each gets its own answer');
};

sub memory { my ($kb) = (read_file("/proc/$_[0]/status") // '') =~ /^VmRSS:\s+(\d+)/m; return $kb // 0 }

subtest 'a message of 30 MiB' => sub {
	my $huge = "Subject: huge\r\n\r\n" . ('x' x 70 . "\r\n") x (30 * 1024 * 1024 / 72);

	for my $way ('fildes', 'instream') {
		my $proxy = proxy("clamd virus { $ways{$way} }");
		is((sent($proxy, $clean))[0], 250, "$way: a small one first");
		my %before = map { $_ => memory($_) } $proxy->children;

		is((sent($proxy, $huge))[0], 250, "$way: passes");
		is((sent($proxy, "$huge$Clamd::EICAR\r\n"))[0], 550, "$way: with a virus at its end it is refused");
		my ($most) = sort { $b <=> $a } map { memory($_) - $before{$_} } keys %before;
		cmp_ok($most, '<', 8 * 1024, "$way: it is never in memory");
	}
};

done_testing;
