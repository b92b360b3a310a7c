#!/usr/bin/perl
# Rules and what they say of addresses: spellings, local domains, tables, clients, times, addresses without a domain.
use strict;
use warnings;
use utf8;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};
binmode Test::More->builder->$_, ':utf8' for qw(output failure_output todo_output);

my $sink = SmtpSink->start(caps => ['PIPELINING', '8BITMIME', 'SMTPUTF8', 'DSN']);
my $dir = temp_dir();

sub conf
{
	my ($conf) = @_;

	utf8::encode($conf);
	return "workers 1\nlistener front { listen 127.0.0.1:0; backend inner }\nbackend inner { hosts @{[ $sink->addr ]} }\n"
	    . "dummy d { }\n$conf\n";
}

sub octets { my ($text) = @_; utf8::encode($text); return $text }

# Does the mail go through the filter d? %opt: from, to, client.
sub matches
{
	my ($proxy, %opt) = @_;
	my $n = scalar $proxy->summaries;
	my $c = delete $opt{client} // $proxy->client;
	my ($from, $to) = map { octets($_) } $opt{from} // 'joe@example.net', $opt{to} // 'ann@example.org';

	$c->ehlo unless $c->{said}++;
	$c->command("MAIL FROM:<$from>" . ("$from$to" =~ /[^ -~]/ ? ' SMTPUTF8' : ''));
	$c->rcpt($to);
	$c->data;
	$c->send("Subject: x\r\n\r\nx\r\n.\r\n");
	is($c->read_reply, 250, "from <$from> to <$to>: taken") or diag($proxy->log);
	return ($proxy->wait_summary($n + 1)->{filters} // '') =~ /^d:pass/ ? 1 : 0;
}

subtest 'an address is the same however it is written' => sub {
	my $proxy = TestProxy->start(conf(<<'CONF'));
rule { sender ann@bücher.example "\"ann b\"@example.net" @xn--strae-oqa.example /@straße2\.example$/; chain d }
default_chain none
CONF
	my @same = ('ann@bücher.example', 'Ann@BÜCHER.example', 'ann@xn--bcher-kva.example', 'ANN@XN--BCHER-KVA.example',
		'"ann"@bücher.example', '@relay.example:ann@bücher.example', '"ann\ b"@example.net', 'x@straße.example',
		'x@xn--strae-oqa.example', 'x@straße2.example', 'x@xn--strae2-eta.example');

	is(matches($proxy, from => $_), 1, "$_ is") for @same;
	is(matches($proxy, from => $_), 0, "$_ is not")
	    for 'ann@bucher.example', 'ann+list@bücher.example', 'annb@example.net', 'x@strasse.example';
	is(($sink->messages)[5]{mail}, octets('FROM:<@relay.example:ann@bücher.example> SMTPUTF8'), 'the back-end gets it as it was written')
	    or diag(explain(($sink->messages)[5]{mail}));
};

subtest 'local domains, on either side' => sub {
	my $list = write_file("$dir/local-host-names", octets("# ours\nExample.ORG\n.sub.example.org\nmünchen.example\n"));
	my $proxy = TestProxy->start(conf(<<"CONF"));
local_domains file:$list other.example /^mail\\d+\\.example\$/
always inside { verdict reject; status 5.7.1; text "you may only write to people of ours" }
# Joe may only write to people of ours; nobody writes from our domains but to us; the rest is free.
rule { sender joe\@example.net; recipient local_domains; chain d }
rule { sender joe\@example.net; chain inside }
rule { sender local_domains; recipient local_domains; chain d }
default_chain none
CONF
	is(matches($proxy, to => $_), 1, "to $_") for 'ann@example.org', 'ann@x.sub.example.org', 'ann@OTHER.example',
	    'ann@mail17.example', 'ann@münchen.example', 'ann@xn--mnchen-3ya.example', 'postmaster';
	for my $to ('ann@sub.example.org', 'ann@example.com', 'ann@xexample.org') {
		is($proxy->client->send_message(from => 'joe@example.net', to => $to)->raw,
			"550 5.7.1 you may only write to people of ours\r\n", "not to $to");
	}
	is(matches($proxy, from => 'bob@example.org', to => 'ann@other.example'), 1, 'from one of ours to another');
	is(matches($proxy, from => 'bob@example.org', to => 'ann@example.com'), 0, 'but not to somebody else');
	is(matches($proxy, from => '', to => 'ann@example.org'), 0, 'the null sender is none of ours');
	write_file($list, "example.com\n");
	is($proxy->reload, 'done', 'a reload');
	is(matches($proxy, to => 'ann@example.com'), 1, 'reads them again');
};

subtest 'an address without a domain' => sub {
	my $proxy = TestProxy->start(conf(<<'CONF'));
unqualified_domain example.org
rule { recipient postmaster root@example.org; chain d }
rule { sender boss@example.org; chain d }
default_chain none
CONF
	is(matches($proxy, to => 'root'), 1, 'is completed for the rules');
	is(($sink->messages)[-1]{rcpt}[0], 'TO:<root@example.org>', 'and for the back-end');
	is(matches($proxy, to => 'Postmaster'), 1, 'postmaster, too');
	is(matches($proxy, to => 'postmaster@example.org'), 1, 'which is then one and the same');
	is(matches($proxy, to => 'postmaster@example.com'), 0, 'another one is not');
	is(matches($proxy, from => 'Boss', to => 'ann@example.net'), 1, 'a sender is completed, too');
	is(($sink->messages)[-1]{mail}, 'FROM:<Boss@example.org>', 'for the back-end as well');
	is(matches($proxy, from => '"the boss"', to => 'ann@example.net'), 0, 'one in quotes, too');
	is(($sink->messages)[-1]{mail}, 'FROM:<"the boss"@example.org>', 'and stays in them');
	is(matches($proxy, from => '', to => 'ann@example.net'), 0, 'the null sender');
	is(($sink->messages)[-1]{mail}, 'FROM:<>', 'stays what it is');
	my $other = TestProxy->start(conf("rule { recipient postmaster; chain d }\ndefault_chain none"));
	is(matches($other, to => 'postmaster'), 1, 'without unqualified_domain a recipient');
	is(($sink->messages)[-1]{rcpt}[0], 'TO:<postmaster>', 'stays as it is');
	is($other->client->send_message(from => 'root', to => 'ann@example.org'), 501, 'and such a sender is refused');
};

SKIP: {
	my $load = '/usr/bin/mdb_load';
	skip 'needs lmdb-utils', 1 unless -x $load;
	subtest 'a table of LMDB' => sub {
		my $write = sub {
			my ($file, @keys) = @_;
			write_file("$dir/dump", join '', map { "$_\nx\n" } @keys);
			system("'$load' -n -T -f '$dir/dump' '$file' 2>/dev/null") == 0 or die 'mdb_load';
		};
		my $file = "$dir/table.lmdb";
		$write->($file, 'ann@example.org', '@b.example', '.c.example', '<>', 'xn--mnchen-3ya.example');
		my $proxy = TestProxy->start(conf(<<"CONF"));
local_domains lmdb:$file
rule { recipient lmdb:$file; chain d }
rule { sender lmdb:$file; chain d }
rule { recipient local_domains; chain d }
default_chain none
CONF
		is(matches($proxy, to => $_), 1, "$_ is in it")
		    for 'Ann@example.org', 'x@b.example', 'x@y.c.example', '"ann"@example.org', 'x@münchen.example';
		is(matches($proxy, from => '', to => 'new@example.org'), 1, 'the null sender is in it');
		is(matches($proxy, to => 'new@example.org'), 0, 'a new one is not');
		$write->($file, 'new@example.org');
		is(matches($proxy, to => 'new@example.org'), 1, 'until it is written, without a reload');
		$write->("$file.new", 'ann@example.org');
		rename "$file.new", $file or die;
		ok((wait_until { !matches($proxy, to => 'new@example.org') }), 'a file in its place is seen by itself');
		is(matches($proxy, to => 'ann@example.org'), 1, 'with what is in it');
		write_file("$file.new", "ann\@example.org\n");
		rename "$file.new", $file or die;
		# It is asked for the file's sake each second.
		ok((wait_until { matches($proxy, to => 'ann@example.org'); $proxy->log =~ /warn .*table path=/ }),
			'one that is no table is told') or diag($proxy->log);
		is(matches($proxy, to => 'ann@example.org'), 1, 'and the old one used on');
		is($proxy->reload, 'kept', 'but no reload takes it');
	};
}

subtest 'clients and times' => sub {
	my $proxy = TestProxy->start(conf(<<"CONF"));
listener sock { listen unix:$dir/sock; backend inner }
dummy e { }
rule { time \@never; chain e }
rule { client unix; chain d }
rule { client 127.0.0.2 192.0.2.0/24; time "* * * * *" \@never; chain d }
default_chain none
CONF
	is(matches($proxy, client => SmtpClient->connect("unix:$dir/sock")), 1, 'one on a Unix socket');
	is(matches($proxy, client => SmtpClient->connect($proxy->addr, local => '127.0.0.2')), 1, 'one with such an address');
	is(matches($proxy), 0, 'and not one with another');
};

done_testing;
