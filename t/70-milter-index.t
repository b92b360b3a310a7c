#!/usr/bin/perl
# What index means in a filter's header edits: asked of a real Postfix and a real sendmail, and of mail/edit.c. The
# answers are the table of doc/milter.md.
use strict;
use warnings;
use Test::More;
use MtaPostfix;
use MtaSendmail;
use SmtpClient;
use SmtpSink;
use TestUtil;

my $indexer = builddir() . '/t/milter/indexer';
my $edited = builddir() . '/t/milter/edited';
plan skip_all => 'needs the unit tests to be built' unless -x $edited;

my @fields = ('Received: from one.example by two.example; Tue, 24 Nov 2026 12:00:00 +0000', 'X-A: 1', 'X-B: 1', 'X-A: 2',
	'From: <joe@example.net>', 'Date: Tue, 24 Nov 2026 12:00:00 +0000', 'Message-ID: <1@example.net>', 'X-A: 3', 'X-C: 1');
my $content = join("\r\n", @fields, '', 'body', '');

# Edits in order; what Postfix makes of the message above; sendmail, where it differs; ours, where it differs from
# Postfix. * is the MTA's own Received line, r the one that was there, f d m From, Date and Message-ID, and of the
# others name and value: "an" is "X-A: n". The edits name A for X-A.
my @cases = (
	[ '', '* r a1 b1 a2 f d m a3 c1' ],
	[ 'insert 0 I v', 'iv * r a1 b1 a2 f d m a3 c1' ],
	[ 'insert 1 I v', '* iv r a1 b1 a2 f d m a3 c1' ],
	[ 'insert 2 I v', '* r iv a1 b1 a2 f d m a3 c1', '* iv r a1 b1 a2 f d m a3 c1' ],
	[ 'insert 3 I v', '* r a1 iv b1 a2 f d m a3 c1', '* iv r a1 b1 a2 f d m a3 c1' ],
	[ 'insert 9 I v', '* r a1 b1 a2 f d m a3 iv c1', '* r iv a1 b1 a2 f d m a3 c1' ],
	[ 'insert 10 I v', '* r a1 b1 a2 f d m a3 c1 iv', '* r a1 iv b1 a2 f d m a3 c1' ],
	[ 'insert 11 I v', '* r a1 b1 a2 f d m a3 c1 iv', '* r a1 b1 iv a2 f d m a3 c1' ],
	[ 'insert 99 I v', '* r a1 b1 a2 f d m a3 c1 iv' ],
	[ 'add I v', '* r a1 b1 a2 f d m a3 c1 iv' ],
	[ 'insert 0 I v; insert 0 J v', 'jv iv * r a1 b1 a2 f d m a3 c1' ],
	[ 'insert 1 I v; insert 1 J v', '* jv iv r a1 b1 a2 f d m a3 c1' ],
	[ 'insert 2 I v; insert 2 J v', '* r jv iv a1 b1 a2 f d m a3 c1', '* jv iv r a1 b1 a2 f d m a3 c1' ],
	[ 'insert 2 I v; insert 3 J v', '* r iv jv a1 b1 a2 f d m a3 c1', '* iv jv r a1 b1 a2 f d m a3 c1' ],
	[ 'change 1 A n', '* r an b1 a2 f d m a3 c1' ],
	[ 'change 2 A n', '* r a1 b1 an f d m a3 c1' ],
	[ 'change 3 A n', '* r a1 b1 a2 f d m an c1' ],
	[ 'change 4 A n', '* r a1 b1 a2 f d m a3 c1 an', '* r an a1 b1 a2 f d m a3 c1' ],
	[ 'change 0 A n', '* r an b1 a2 f d m a3 c1' ],
	[ 'change 1 x-a n', '* r x-an b1 a2 f d m a3 c1', '* r an b1 a2 f d m a3 c1', '* r an b1 a2 f d m a3 c1' ],
	[ 'change 1 A; change 1 A n', '* r b1 an f d m a3 c1', '* r an b1 a2 f d m a3 c1' ],
	[ 'change 1 A; change 2 A n', '* r b1 a2 f d m an c1', '* r b1 an f d m a3 c1' ],
	[ 'change 1 A; change 3 A n', '* r b1 a2 f d m a3 c1 an', '* r b1 a2 f d m an c1' ],
	[ 'change 1 A; change 1 A', '* r b1 f d m a3 c1', '* r b1 a2 f d m a3 c1' ],
	[ 'change 2 A; change 2 A', '* r a1 b1 f d m c1', '* r a1 b1 f d m a3 c1' ],
	[ 'change 1 A; change 2 A', '* r b1 a2 f d m c1', '* r b1 f d m a3 c1' ],
	[ 'change 4 A', '* r a1 b1 a2 f d m a3 c1' ],
	[ 'change 1 A; insert 2 I v', '* r iv b1 a2 f d m a3 c1', '* iv r b1 a2 f d m a3 c1' ],
	[ 'change 1 A; insert 3 I v', '* r b1 iv a2 f d m a3 c1', '* iv r b1 a2 f d m a3 c1' ],
	[ 'change 1 A; insert 4 I v', '* r b1 a2 iv f d m a3 c1', '* iv r b1 a2 f d m a3 c1' ],
	[ 'change 1 A; add A v; change 3 A n', '* r b1 a2 f d m a3 c1 an', '* r av b1 an f d m a3 c1' ],
	[ 'change 1 A; add A v; change 4 A n', '* r b1 a2 f d m a3 c1 av an', '* r av b1 a2 f d m an c1' ],
	[ 'insert 0 A v; change 1 A n', 'an * r a1 b1 a2 f d m a3 c1' ],
	[ 'insert 0 A v; change 2 A n', 'av * r an b1 a2 f d m a3 c1' ],
	[ 'insert 1 A v; change 1 A n', '* an r a1 b1 a2 f d m a3 c1' ],
	[ 'insert 2 A v; change 1 A n', '* r an a1 b1 a2 f d m a3 c1', '* an r a1 b1 a2 f d m a3 c1' ],
	[ 'insert 2 A v; change 2 A n', '* r av an b1 a2 f d m a3 c1', '* av r an b1 a2 f d m a3 c1' ],
	[ 'add A v; change 4 A n', '* r a1 b1 a2 f d m a3 c1 an', '* r av a1 b1 a2 f d m an c1' ],
	[ 'change 1 Received n', '* rn a1 b1 a2 f d m a3 c1', '* rn a1 b1 a2 f d m a3 c1', 'rn r a1 b1 a2 f d m a3 c1' ],
	[ 'change 2 Received n', '* r a1 b1 a2 f d m a3 c1 rn', 'rn * r a1 b1 a2 f d m a3 c1', '* rn a1 b1 a2 f d m a3 c1' ],
	[ 'change 1 Received', '* a1 b1 a2 f d m a3 c1', '* a1 b1 a2 f d m a3 c1', 'r a1 b1 a2 f d m a3 c1' ],
	[ 'change 2 Received', '* r a1 b1 a2 f d m a3 c1', '* r a1 b1 a2 f d m a3 c1', '* a1 b1 a2 f d m a3 c1' ],
);

sub edits_of { return join '', map { s/\b(?=[A-Z] ?)(?!Received)/X-/r . "\n" } split /; /, $_[0] }

sub written
{
	my ($head) = @_;
	my @words;

	$head =~ s/\r\n[ \t]+/ /g;
	for (split /\r\n/, $head) {
		my ($name, $value) = /^([^:]+): ?(.*)/;

		push @words, $name eq 'Received' ? ($value eq 'n' ? 'rn' : $value =~ /two\.example/ ? 'r' : '*')
		    : $name =~ /^(From|Date|Message-ID)$/i ? lc substr($name, 0, 1)
		    : $name =~ /^X-/ ? lc(substr $name, 2) . $value : "$name$value";
	}
	return "@words";
}

# ---- ours ------------------------------------------------------------------------------------

my $dir = temp_dir();
chmod 0755, "$dir";
my $file = write_file("$dir/edits", '');
my $message = write_file("$dir/message", $content);

for my $case (@cases) {
	my ($edits, $postfix, undef, $ours) = @$case;

	write_file($file, edits_of($edits));
	is(written(scalar `'$edited' '$file' <'$message'`), $ours // $postfix, 'ours: ' . ($edits || 'nothing'));
}

my $page = read_file(srcdir() . '/doc/milter.md');
for my $case (@cases) {
	my ($edits, $postfix, $sendmail, $ours) = @$case;
	my $row = '| ' . join(' | ', map { $_ // '' } $edits, $postfix, $sendmail, $ours) . ' |';

	ok(index($page, $row =~ s/ {2,}/ /gr) >= 0, "doc/milter.md has the row: $row");
}

# ---- theirs ----------------------------------------------------------------------------------

# Each case, through an MTA that asks the indexer.
sub try_all
{
	my ($column, $make) = @_;
	my $port = free_port();
	my $sink = SmtpSink->start;
	my $filter = start_process("$dir/log", $indexer, "inet:$port\@127.0.0.1", $file);

	wait_port("127.0.0.1:$port", 20) or die 'the filter does not listen: ' . read_file("$dir/log");
	my $mta = $make->($port, $sink->addr);
	my $c = SmtpClient->connect($mta->addr);
	my $n = 0;
	for my $case (@cases) {
		my ($edits, @want) = @$case;

		write_file($file, edits_of($edits));
		is($c->send_message(to => 'ann@example.org', content => $content), 250, ($edits || 'nothing') . ': taken');
		$sink->wait_count(++$n, 20) or last;
		is(written($sink->txn($n - 1)->{content} =~ s/\r\n\r\n.*//sr), $want[$column] // $want[0], 'and done');
	}
	is($n, scalar @cases, 'all came through') or diag($mta->log);
	is(read_file("$file.seen"), join('', map { "$_\n" } @fields), 'the filter is not shown the Received line of the MTA');
	$c->quit;
	stop_process($filter, 5);
	return;
}

SKIP: {
	skip 'needs libmilter', 2 unless -x $indexer;
	subtest 'Postfix' => sub {
		plan skip_all => MtaPostfix->unavailable if MtaPostfix->unavailable;
		try_all(0, sub {
			my ($port, $relay) = @_;
			return MtaPostfix->new(relay => $relay,
				main => "smtpd_milters = inet:127.0.0.1:$port\nmilter_default_action = tempfail\n")->start;
		});
	};
	subtest 'sendmail' => sub {
		plan skip_all => MtaSendmail->unavailable if MtaSendmail->unavailable;
		try_all(1, sub {
			my ($port, $relay) = @_;
			return MtaSendmail->new(lines => "INPUT_MAIL_FILTER(`indexer', `S=inet:$port\@127.0.0.1, F=T')dnl\n")
			    ->start(filter => $relay);
		});
	};
}

done_testing;
