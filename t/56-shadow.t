#!/usr/bin/perl
# What the options common to all filters make of a verdict and of edits: shadow, on_reject, the texts of replies, may.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use HttpClient;
use Metrics;
use SmtpClient;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'needs its own configurations' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP};

my $sink = SmtpSink->start;

sub proxy
{
	my ($filters) = @_;

	return TestProxy->start(<<"CONF");
workers 2
health { listen 127.0.0.1:0 }
listener front { listen 127.0.0.1:0; backend inner; received no; envelope late }
backend inner { hosts @{[ $sink->addr ]} }
quarantine { directory %d/q }
$filters
CONF
}

sub values_of
{
	my ($proxy, $name, $filter) = @_;
	my $m = Metrics->parse(HttpClient::get($proxy->health_addr, '/metrics')->{body});
	my $by = $m->by("postern_filter_$name", 'verdict', filter => $filter);

	return join ' ', map { "$_=$by->{$_}" } sort keys %$by;
}

sub value
{
	my ($proxy, $name, $filter) = @_;

	return Metrics->parse(HttpClient::get($proxy->health_addr, '/metrics')->{body})
		->value("postern_filter_$name", filter => $filter);
}

# One message; its reply, what the back-end got of it (undef: nothing) and its summary line's filters without times.
sub mail
{
	my ($proxy) = @_;
	my $before = $sink->count;
	my $lines = () = $proxy->summaries;
	my $reply = $proxy->client('front')->send_message(content => "A: 1\r\nSubject: x\r\n\r\nx\r\n");
	my $line = $proxy->wait_summary($lines + 1);
	my $got = $sink->count > $before ? $sink->txn($before)->{content} : undef;

	return ($reply, $got, $line->{filters} =~ s{/\d+ms}{}gr, $line);
}

my $as_it_was = "A: 1\r\nSubject: x\r\n\r\nx\r\n";

subtest 'a shadow that would reject' => sub {
	my $proxy = proxy(qq(always new { verdict reject; text "not this one"; shadow yes }\ndefault_chain new));
	my ($reply, $got, $filters) = mail($proxy);

	is($reply, 250, 'changes nothing');
	is($got, $as_it_was, 'the message is delivered as it was');
	is($filters, 'new:shadow-reject', 'the summary line has what it would have been');
	ok($proxy->wait_log(qr/^info w\d s=\S+ t=\d+ shadow filter=new verdict=reject text="not this one" ms=\d+$/m),
		'and a line of its own has its words');
	is(values_of($proxy, 'shadow_total', 'new'), 'reject=1', 'it is counted as a shadow');
	is(values_of($proxy, 'calls_total', 'new'), '', 'and not as a verdict');
	is(value($proxy, 'shadow_disagreements_total', 'new'), 1, 'as one of another opinion');
	is(value($proxy, 'running', 'new'), 0, 'it is over');
};

subtest 'a shadow that would pass' => sub {
	my $proxy = proxy("always new { verdict pass; shadow yes }\nalways old { verdict reject }\ndefault_chain new old");
	my ($reply, $got, $filters) = mail($proxy);

	is($reply, 550, 'does not help against another filter');
	is($filters, 'new:shadow-pass,old:reject', 'both are told');
	unlike($proxy->log, qr/ shadow filter=/, 'a pass has no line of its own');
	is(value($proxy, 'shadow_disagreements_total', 'new'), 1, 'it was of another opinion');
	$proxy = proxy("always new { verdict accept; shadow yes }\nalways old { verdict reject }\ndefault_chain new old");
	($reply) = mail($proxy);
	is($reply, 550, 'nor does an accept');
};

subtest 'a shadow that would edit' => sub {
	my $proxy = proxy("header new { add X-New 1; subject_tag [new]; shadow yes }\nheader old { add X-Old 1 }\ndefault_chain new old");
	my ($reply, $got, $filters) = mail($proxy);

	is($reply, 250, 'lets the message pass');
	is($got, "A: 1\r\nSubject: x\r\nX-Old: 1\r\n\r\nx\r\n", 'with the edits of the others alone');
	is($filters, 'new:shadow-pass,old:pass', 'both are told');
};

subtest 'a shadow that fails' => sub {
	my $proxy = proxy("dummy new { wait 30s; timeout 50ms; on_failure reject; shadow yes }\ndefault_chain new");
	my ($reply, $got, $filters) = mail($proxy);

	is($reply, 250, 'does no harm');
	is($got, $as_it_was, 'the message is delivered');
	is($filters, 'new:shadow-reject', 'what would have been is told');
	is(value($proxy, 'failures_total', 'new'), 1, 'the failure is counted');
	ok($proxy->wait_log(qr/warn .* filter filter=new err="no answer within 50 ms"/), 'and logged');
};

subtest 'a reject' => sub {
	my %made = (
		reject => [ 550, undef, 'block:reject' ],
		discard => [ 250, undef, 'block:reject-discard' ],
		quarantine => [ 250, undef, 'block:reject-quarantine' ],
		pass => [ 250, "A: 1\r\nSubject: x\r\nX-Last: 1\r\n\r\nx\r\n", 'block:reject-pass,last:pass' ],
	);

	for my $how (sort keys %made) {
		my $proxy = proxy("always block { verdict reject; text nothing; on_reject $how }\nheader last { add X-Last 1 }\n"
			. 'default_chain block last');
		my ($reply, $got, $filters, $line) = mail($proxy);

		is($reply, $made{$how}[0], "on_reject $how: the reply");
		is($got, $made{$how}[1], 'what the back-end gets');
		is($filters, $made{$how}[2], 'the filters in the summary line');
		is($line->{verdict}, $how, 'its verdict');
		my @entries = grep { !m{/tmp$} } glob $proxy->dir . '/q/*';
		is(scalar @entries, $how eq 'quarantine' ? 1 : 0, 'what is in the quarantine');
		like(read_file("$_/metadata.json"), qr/"nothing"/, 'with the reason') for @entries;
		is(values_of($proxy, 'calls_total', 'block'), "$how=1", 'what is counted');
	}
};

subtest 'the text of a reply' => sub {
	my $proxy = proxy('always block { verdict reject; code 554; status 5.7.9; text own; reject_text "go away" }' . "\ndefault_chain block");
	my ($reply) = mail($proxy);

	is($reply->raw, "554 5.7.9 go away\r\n", 'is that of reject_text, with the code of the filter');
	$proxy = proxy('dummy slow { wait 30s; timeout 50ms; tempfail_text "come back" }' . "\ndefault_chain slow");
	($reply) = mail($proxy);
	is($reply->raw, "451 4.3.0 come back\r\n", 'or of tempfail_text, also when the filter failed');
};

subtest 'may' => sub {
	my @cases = (
		[ 'header', "Subject: y\r\nX-New: 1\r\n\r\nx\r\n" ],
		[ 'add_header change_header', "A: 1\r\nSubject: y\r\nX-New: 1\r\n\r\nx\r\n", 'delete_header' ],
		[ 'add_header', "A: 1\r\nSubject: x\r\nX-New: 1\r\n\r\nx\r\n", 'delete_header' ],
		[ 'delete_header', "Subject: x\r\n\r\nx\r\n", 'change_header' ],
		[ 'none', $as_it_was, 'delete_header' ],
	);

	for my $case (@cases) {
		my ($words, $want, $refused) = @$case;
		my $proxy = proxy("header edit { add X-New 1; change Subject y; remove A; may $words }\ndefault_chain edit");
		my ($reply, $got) = mail($proxy);

		is($reply, 250, "may $words: the message passes");
		is($got, $want, 'with what is permitted');
		if (defined $refused) {
			ok($proxy->wait_log(qr/warn .* filter filter=edit edit=$refused err="asks for an edit it may not make; refused"/),
				'the log has what is not');
		} else {
			unlike($proxy->log, qr/may not make/, 'nothing is refused');
		}
	}
};

done_testing;
