#!/usr/bin/perl
# The filter access: pairs of sender and recipient, as sendmail's access(5) text has them.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use File::Spec;
use Test::More;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $sink = SmtpSink->start;
my $dir = temp_dir();
my $table = write_file("$dir/access", <<'ACCESS');
# Only the lines with Compat: are ours.
Connect:192.0.2.1		REJECT
To:ann@example.org		OK
Compat:joe@example.net<@>ann@example.org	ERROR:550 she does not want mail from you
compat:Joe@Example.NET<@>bob@example.org	ERROR:5.7.27:553 nor does he
Compat:joe@example.net<@>eve@example.org   TEMP:450 4.2.1 not today
Compat:joe@example.net<@>tom@example.org	DISCARD
Compat:joe@example.net<@>ok@example.org	OK
Compat:joe@example.net<@>too@example.org	ERROR:550 she does not want mail from you
Compat:joe@example.net<@>quoted@example.org	ERROR:"550 5.1.6 quoted"
Compat:joe@example.net<@>plain@example.org	REJECT
Compat:<><@>nobounce@example.org	ERROR:550 no bounces
Compat:joe@bücher.example<@>ann@example.org	ERROR:550 no books
Compat:joe@example.net<@>postmaster	ERROR:550 no postmaster
ACCESS

my $proxy = TestProxy->start(<<"CONF");
workers 1
listener front { listen 127.0.0.1:0; backend inner }
listener gate { listen 127.0.0.1:0; backend inner; gate pairs }
backend inner { hosts @{[ $sink->addr ]} }
access pairs { file $table }
dummy last { }
rule { listener gate; chain none }
default_chain pairs last
CONF

# sender, recipient, reply at the end (undef: delivered), filters in the log
my @cases = (
	[ 'joe@example.net', 'ann@example.org', '550 5.7.1 she does not want mail from you', 'pairs:reject' ],
	[ 'JOE@example.net', 'Ann@EXAMPLE.org', '550 5.7.1 she does not want mail from you', 'pairs:reject' ],
	[ '"joe"@example.net', '@relay.example:ann@example.org', '550 5.7.1 she does not want mail from you', 'pairs:reject' ],
	[ 'joe@example.net', 'bob@example.org', '553 5.7.27 nor does he', 'pairs:reject' ],
	[ 'joe@example.net', 'eve@example.org', '450 4.2.1 not today', 'pairs:tempfail' ],
	[ 'joe@example.net', 'tom@example.org', '250 2.0.0 Ok: discarded', 'pairs:discard' ],
	[ 'joe@example.net', 'quoted@example.org', '550 5.1.6 quoted', 'pairs:reject' ],
	[ 'joe@example.net', 'plain@example.org', '550 5.7.1 message refused', 'pairs:reject' ],
	[ '', 'nobounce@example.org', '550 5.7.1 no bounces', 'pairs:reject' ],
	[ 'joe@xn--bcher-kva.example', 'ann@example.org', '550 5.7.1 no books', 'pairs:reject' ],
	[ 'joe@example.net', 'postmaster', '550 5.7.1 no postmaster', 'pairs:reject' ],
	[ 'joe@example.net', 'ok@example.org', undef, 'pairs:skipped,last:pass' ],
	[ 'joe@example.net', 'other@example.org', undef, 'pairs:skipped,last:pass' ],
	[ 'ann@example.org', 'joe@example.net', undef, 'pairs:skipped,last:pass' ],
);

my $n = 0;
for my $case (@cases) {
	my ($from, $to, $reply, $filters) = @$case;

	subtest "from <$from> to <$to>" => sub {
		my $before = $sink->count;
		my $got = $proxy->client('front')->send_message(from => $from, to => $to);

		is($got->raw, "$reply\r\n", 'the reply is that of the table') if defined $reply;
		is($got, 250, 'the message passes') unless defined $reply;
		my $line = $proxy->wait_summary(++$n);
		is(join(',', sort split /,/, $line->{filters} =~ s{/\d+ms}{}gr), join(',', sort split /,/, $filters), 'the log says so');
		is($sink->count, $before + !defined $reply, defined $reply ? 'nothing is delivered' : 'it is delivered');
	};
}

subtest 'recipients with differing answers come one by one' => sub {
	my $c = $proxy->client('front');

	$c->ehlo;
	is($c->mail('joe@example.net'), 250, 'a sender');
	is($c->rcpt('ann@example.org'), 250, 'one that refuses him');
	is($c->rcpt('too@example.org'), 250, 'another one, in the same words');
	is($c->rcpt('other@example.org'), 452, 'one who does not has to wait');
	is($c->rcpt('bob@example.org'), 452, 'and one who refuses him in other words');
	$c->data;
	$c->send("Subject: x\r\n\r\nx\r\n.\r\n");
	is($c->read_reply, 550, 'both are refused');
	is($proxy->wait_summary(++$n)->{filters} =~ s{/\d+ms}{}gr, 'pairs:reject', 'by one run of the filter');
};

subtest 'in the gate each recipient has its reply at once' => sub {
	my $c = $proxy->client('gate');

	$c->ehlo;
	$c->mail('joe@example.net');
	is($c->rcpt('ann@example.org')->raw, "550 5.7.1 she does not want mail from you\r\n", 'one that refuses');
	is($c->rcpt('eve@example.org')->raw, "450 4.2.1 not today\r\n", 'one that puts off');
	is($c->rcpt('ok@example.org'), 250, 'one that does not');
	is($c->rcpt('tom@example.org'), 250, 'one whose mail is dropped hears nothing of it');
	$c->data;
	$c->send("Subject: x\r\n\r\nx\r\n.\r\n");
	is($c->read_reply, 250, 'the message is taken');
	is("@{ ($sink->messages)[-1]{rcpt} }", 'TO:<ok@example.org>', 'for who is left');
	$n++;
};

subtest 'a file that has changed is read with the next reload' => sub {
	write_file($table, "Compat:joe\@example.net<@>other\@example.org\tERROR:550 now\n");
	is($proxy->reload, 'done', 'a reload when only the table has changed');
	is($proxy->client('front')->send_message(from => 'joe@example.net', to => 'other@example.org'), 550, 'has the new pair');
	is($proxy->client('front')->send_message(from => 'joe@example.net', to => 'ann@example.org'), 250, 'and not the old ones');
	write_file($table, "Compat:joe\@example.net<@>other\@example.org\tPERHAPS\n");
	is($proxy->reload, 'kept', 'one with a mistake changes nothing');
	like($proxy->log, qr/reload state=kept err="\Q$table\E:1:1: \\"PERHAPS\\" is no answer for a pair/, 'the log says where it is');
};

subtest 'addresses without a domain are completed in the table, too' => sub {
	write_file($table, "Compat:root<@>postmaster\tERROR:550 not these two\n");
	my $whole = TestProxy->start("workers 1\nunqualified_domain example.org\nlistener front { listen 127.0.0.1:0; backend inner }\n"
		. "backend inner { discard yes }\naccess pairs { file $table }\ndefault_chain pairs\n");
	for my $from ('root', 'root@example.org') {
		is($whole->client->send_message(from => $from, to => $_), 550, "from <$from> to <$_>") for 'postmaster', 'Postmaster@example.org';
	}
};

# What makemap has made of it, as it prints it.
SKIP: {
	require MtaSendmail;
	my $makemap = File::Spec->rel2abs((MtaSendmail::home() // '') . '/usr/libexec/sendmail/makemap');
	skip 'needs the unpacked sendmail packages (./bootstrap)', 1 unless -x $makemap;
	subtest 'a dump of sendmail\'s own map' => sub {
		write_file("$dir/map", "Compat:Joe\@Example.net<@>dump\@example.org\tERROR:550 from the map\nTo:x\@y\tOK\n");
		system("cd '$dir' && '$makemap' -C /dev/null hash map <map && '$makemap' -C /dev/null -u hash map >access") == 0 or die 'makemap';
		is($proxy->reload, 'done', 'a reload');
		is($proxy->client('front')->send_message(from => 'joe@example.net', to => 'dump@example.org')->raw,
			"550 5.7.1 from the map\r\n", 'has what is in it');
	};
}

# What is wrong is told when the configuration is read.
sub said
{
	my ($lines) = @_;

	write_file("$dir/access2", $lines);
	write_file("$dir/p", "listener front { listen 127.0.0.1:10025; backend inner }\nbackend inner { discard yes }\n"
		. "access f { file access2 }\ndefault_chain f\n");
	my $out = `'@{[ $proxy->program ]}' -T -c '$dir/p' 2>&1 >/dev/null </dev/null`;
	return $out =~ s/\Q$dir\E\///gr;
}

my @wrong = (
	[ 'Compat:a@b	PERHAPS', 'access2:1:1: "a@b" is no pair (try Compat:joe@example.net<@>ann@example.org)' ],
	[ 'Compat:a@b<@>	OK', 'access2:1:1: "a@b<@>" is no pair (try Compat:joe@example.net<@>ann@example.org)' ],
	[ 'Compat:a@b<@>c@d', 'access2:1:1: "" is no answer for a pair (try OK, DISCARD, TEMP:450 text or ERROR:550 text)' ],
	[ 'Compat:a@b<@>c@d TEMP:550 no', 'access2:1:1: code 550 is no tempfail (a code for it begins with 4)' ],
	[ 'Compat:a@b<@>c@d ERROR:450 no', 'access2:1:1: code 450 is no reject (a code for it begins with 5)' ],
	[ 'Compat:a@b<@>c@d ERROR:4.7.1:550 no', 'access2:1:1: status 4.7.1 is no reject (a status for it begins with 5)' ],
	[ "Compat:a\@b<@>c\@d ERROR:550 n\xc3\xb6", 'access2:1:1: text has characters other than printable ASCII' ],
	[ 'To:a@b	REJECT', 'p:3:12: warning: file: there is no line "Compat:SENDER<@>RECIPIENT" in access2' ],
);
for my $wrong (@wrong) {
	is(said("$wrong->[0]\n"), "$wrong->[1]\n", 'told: ' . $wrong->[0] =~ s/[^ -~]/?/gr);
}

done_testing;
