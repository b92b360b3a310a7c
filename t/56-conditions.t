#!/usr/bin/perl
# Lists of words in files, and the conditions of filters.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $sink = SmtpSink->start;

sub conf
{
	my ($conf) = @_;

	return "workers 1\nlistener front { listen 127.0.0.1:0; backend inner }\nbackend inner { hosts @{[ $sink->addr ]} }\n$conf\n";
}

# What the summary says of the filters, without their times. %opt: client (a new one), others of send_message.
sub filters
{
	my ($proxy, %opt) = @_;
	my $c = delete $opt{client} // $proxy->client;

	is($c->send_message(%opt), 250, 'a message passes');
	return ($proxy->summary_of($c)->{filters} // '') =~ s{/\d+ms}{}gr;
}

subtest 'a list in a file' => sub {
	my $dir = temp_dir();
	my $list = write_file("$dir/partners", "# those we know\n\n  Ann\@a.example  \n.b.example\n/^list-/\n");
	my $proxy = TestProxy->start(conf("dummy d { }\nrule { sender x\@x.example file:$list; chain d }\ndefault_chain none"));

	is(filters($proxy, from => 'ann@A.example'), 'd:pass', 'an address of it');
	is(filters($proxy, from => 'x@m.b.example'), 'd:pass', 'what lies under a domain of it');
	is(filters($proxy, from => 'List-7@c.example'), 'd:pass', 'a pattern of it');
	is(filters($proxy, from => 'x@x.example'), 'd:pass', 'a word beside it');
	is(filters($proxy, from => 'new@c.example'), '', 'and another one');
	write_file($list, "new\@c.example\n");
	is($proxy->reload, 'done', 'a reload, when only the list has changed,');
	is(filters($proxy, from => 'new@c.example'), 'd:pass', 'reads it again');
	like($proxy->log, qr/^info m changed of="file \Q$list\E" was="5 lines" now="1 lines"$/m, 'and the log names it');
	is(filters($proxy, from => 'ann@a.example'), '', 'and what is not in it any more does not count');
	write_file($list, "new\@c.example\nann\@\n");
	is($proxy->reload, 'kept', 'a list with a mistake changes nothing');
	like($proxy->log, qr/reload state=kept err="\Q$list\E:2:1: sender: the domain is missing in \\"ann@\\"/, 'the log says where it is');
	is(filters($proxy, from => 'new@c.example'), 'd:pass', 'the old one holds');
};

for my $watch ('no', 'yes') {
	subtest "a list that has changed is read by itself, with watch_config $watch" => sub {
		my $dir = temp_dir();
		my $list = write_file("$dir/partners", "ann\@a.example\n");
		my $proxy = TestProxy->start(
			conf("watch_config $watch\ndummy d { }\nrule { sender file:$list; chain d }\ndefault_chain none"));

		is(filters($proxy, from => 'bob@a.example'), '', 'a sender that is not in the list');
		write_file($list, "ann\@a.example\nbob\@a.example\n");
		# A file as young as the start may count as changed: that reload, if there is one, may be of the list as it was.
		ok((wait_until { $proxy->wait_log(qr/reload state=done/) && filters($proxy, from => 'bob@a.example') eq 'd:pass' }),
			'when it has changed it is');
		write_file($list, "bob\@\n");
		ok($proxy->wait_log(qr/reload state=kept err="\Q$list\E:1:1: sender: the domain is missing/), 'a mistake is told');
		is(filters($proxy, from => 'bob@a.example'), 'd:pass', 'and changes nothing');
	};
}

subtest 'a list that has changed does not make anybody read a configuration that is being worked on' => sub {
	my $dir = temp_dir();
	my $list = write_file("$dir/partners", "ann\@a.example\n");
	my $conf = conf("dummy d { }\nrule { sender file:$list; chain d }\ndefault_chain none");
	my $proxy = TestProxy->start($conf);

	$proxy->write_conf($conf =~ s/default_chain none/default_chain d/r);
	write_file($list, "bob\@a.example\n");
	ok($proxy->wait_log(qr/^warn m reload state="a list has changed, and so has the configuration itself/m), 'the log tells of both');
	is(filters($proxy, from => 'bob@a.example'), '', 'and neither is in force');
	is($proxy->reload, 'done', 'until a reload');
	is(filters($proxy, from => 'bob@a.example'), 'd:pass', 'reads both');
	is(filters($proxy, from => 'new@a.example'), 'd:pass', 'indeed');
};

# ---- conditions ------------------------------------------------------------------------------

subtest 'conditions on the message: all that are given must hold' => sub {
	my $proxy = TestProxy->start(conf(<<'CONF'));
dummy sender { only_sender @a.example; skip_sender noreply@a.example }
dummy subject { only_subject /grüße/ "on sale" }
dummy header { only_header X-Spam /^yes/ }
dummy size { only_larger 1K; only_smaller 4K }
dummy client { only_client 127.0.0.0/8; only_helo .good.example; only_tls no }
dummy both { only_sender @a.example; only_subject /grüße/ }
dummy always { only_time @always; skip_client 192.0.2.0/24 }
dummy never { only_time @never }
default_chain sender subject header size client both always never
CONF
	my $ran = sub {
		my ($name, $header, %opt) = @_;
		my $c = $proxy->client;

		$c->ehlo($opt{helo} // 'bad.example');
		my $filters = filters($proxy, client => $c, from => $opt{from} // 'x@x.example',
			content => "$header\r\n" . "body\r\n" x ($opt{lines} // 1));
		is(join(' ', $filters =~ /(\w+):(?:pass|skipped)/g), 'sender subject header size client both always never',
			"$name: the log names all filters");
		return join ' ', $filters =~ /(\w+):pass/g;
	};

	is($ran->('none', ''), 'always', 'none of them holds but what always does');
	is($ran->('sender', '', from => 'ann@A.example'), 'sender always', 'a sender');
	is($ran->('skip', '', from => 'noreply@a.example'), 'always', 'one that is skipped');
	is($ran->('subject', "Subject: =?iso-8859-1?Q?Viele_Gr=FC=DFe?=\r\n"), 'subject always', 'a subject, decoded');
	is($ran->('exact', "Subject: On Sale\r\n"), 'subject always', 'a whole subject');
	is($ran->('longer', "Subject: on sale now\r\n"), 'always', 'which has to be the whole');
	is($ran->('header', "x-spam: no\r\nx-spam: Yes,\r\n 7.1\r\n"), 'header always', 'a header field, one of several');
	is($ran->('size', '', lines => 300), 'size always', 'a size');
	is($ran->('large', '', lines => 1000), 'always', 'a larger one');
	is($ran->('helo', '', helo => 'mail.good.example'), 'client always', 'a client');
	is($ran->('two', "Subject: =?utf-8?B?R3LDvMOfZQ==?=\r\n", from => 'ann@a.example'), 'sender subject both always', 'two at once');
};

subtest 'conditions on recipients' => sub {
	my $proxy = TestProxy->start(conf(<<'CONF'));
dummy watch { only_recipient boss@example.org }
dummy scan { skip_recipient abuse@example.org }
dummy all { }
default_chain watch scan all
CONF
	my $c = $proxy->client;

	is(filters($proxy, to => 'boss@example.org'), 'watch:pass,scan:pass,all:pass', 'one that all hold for');
	is(filters($proxy, to => 'Abuse@example.org'), 'watch:skipped,scan:skipped,all:pass', 'one that is skipped');
	is(filters($proxy, to => [ 'a@example.org', 'b@example.org' ]), 'watch:skipped,scan:pass,all:pass',
		'two with the same filters stay together');
	$c->ehlo;
	$c->mail('s@example.net');
	is($c->rcpt('a@example.org'), 250, 'of two with other filters');
	is($c->rcpt('boss@example.org'), 452, 'the second must come again');
	is($c->rcpt('b@example.org'), 250, 'and others need not');
};

subtest 'TLS' => sub {
	plan skip_all => 'needs Net::SSLeay' unless eval { require TlsOctets };
	require Certs;
	my $certs = Certs->new;
	my ($cert, $key) = $certs->make('server');
	my ($mine, $my_key) = $certs->make('client');
	my ($other, $other_key) = $certs->make('other');
	my $print = uc(Certs::fingerprint($mine)) =~ s/..\K(?=.)/:/gr;
	my $proxy = TestProxy->start(<<"CONF");
workers 1
listener front { listen 127.0.0.1:0; backend inner; tls { certificate $cert; key $key; verify ask; client_ca @{[ $certs->ca ]} } }
backend inner { hosts @{[ $sink->addr ]} }
dummy secret { only_tls yes }
dummy open { only_tls no }
dummy known { only_tls $print }
default_chain secret open known
CONF
	my $secured = sub {
		my $c = $proxy->client;

		$c->ehlo;
		ok($c->starttls(ca => $certs->ca, @_), 'TLS');
		$c->ehlo;
		return $c;
	};

	is(filters($proxy), 'secret:skipped,open:pass,known:skipped', 'in clear');
	is(filters($proxy, client => $secured->()), 'secret:pass,open:skipped,known:skipped', 'without a certificate');
	is(filters($proxy, client => $secured->(cert => $mine, key => $my_key)), 'secret:pass,open:skipped,known:pass', 'with this one');
	is(filters($proxy, client => $secured->(cert => $other, key => $other_key)), 'secret:pass,open:skipped,known:skipped', 'with another one');
};

subtest 'a pattern over its limits' => sub {
	my $proxy = TestProxy->start(conf("dummy d { skip_subject /(a+)+\$/; on_failure pass }\ndummy e { skip_subject /(a+)+\$/ }\n"
		. "rule { sender \@pass.example; chain d }\ndefault_chain e"));
	my $slow = 'Subject: ' . 'a' x 40 . "b\r\n\r\n";

	is(filters($proxy, from => 's@pass.example', content => $slow), 'd:pass', 'is a failure of the filter');
	ok($proxy->wait_log(qr/^warn .* filter filter=d err="skip_subject: pattern .*: match limit exceeded" on_failure=pass$/m), 'that the log tells');
	is($proxy->client->send_message(content => $slow), 451, 'and no accept');
};

subtest 'a condition on a recipient that cannot be answered' => sub {
	my $proxy = TestProxy->start(conf(<<'CONF'));
dummy open { only_recipient /(a+)+$/; on_failure pass }
always new { verdict reject; skip_recipient /(a+)+$/; shadow yes }
dummy other { only_recipient /(a+)+$/; only_sender nobody@a.example }
dummy shut { skip_recipient /(a+)+$/ }
rule { recipient @shut.example; chain shut }
default_chain open new other
CONF
	my $slow = 'a' x 40 . 'b';

	is(filters($proxy, to => "$slow\@x.example"), 'open:pass,new:shadow-tempfail,other:skipped',
		'is a failure of the filter, and none of a shadow stops mail; it is no matter where another one does not hold');
	ok($proxy->wait_log(qr/^warn .* filter filter=open err="only_recipient: pattern .*: match limit exceeded" on_failure=pass$/m), 'which the log tells');
	is(filters($proxy, to => [ "$slow\@x.example", "c$slow\@x.example" ]), 'open:pass,new:shadow-tempfail,other:skipped',
		'recipients with the same failure share it');
	my $c = $proxy->client;
	my $reply = $c->send_message(to => "$slow\@shut.example");
	is($reply->raw, "451 4.3.0 message could not be checked, please try again later\r\n", 'and it is no accept');
	is(($proxy->summary_of($c)->{filters} // '') =~ s{/\d+ms}{}r, 'shut:tempfail', 'as the summary says');
	$c = $proxy->client;
	$c->ehlo;
	$c->mail('s@example.net');
	is($c->rcpt('r@x.example'), 250, 'one for whom it is known');
	is($c->rcpt("$slow\@x.example"), 452, 'has other filters');
};

subtest 'conditions see what filters before have changed, and one that is skipped loses none of it' => sub {
	my $proxy = TestProxy->start(conf(<<'CONF'));
header mark { add X-Mark "on" }
header seen { only_header X-Mark /^on$/; add X-Seen "yes" }
header off { only_header X-Mark /^off$/; add X-None "yes" }
dummy last { only_sender nobody@a.example }
default_chain mark seen off last
CONF

	is(filters($proxy, content => "Subject: x\r\n\r\nx\r\n"), 'mark:pass,seen:pass,off:skipped,last:skipped', 'the two that hold run');
	my ($header) = ($sink->messages)[-1]{content} =~ /\A(.*?\r\n)\r\n/s;
	like($header, qr/^Subject: x\r\nX-Mark: on\r\nX-Seen: yes\r\n\z/m, 'and their edits arrive');
};

done_testing;
