# Metrics - Prometheus' text format 0.0.4, read strictly.
#
#   my $m = Metrics->parse($text);              # dies and says where it is wrong
#   is $m->value('postern_messages_received_total', listener => 'front'), 3;
#
# Beside the grammar it holds what a scrape relies on: HELP and TYPE once and in front, all samples of a family
# together, no sample twice, names of counters end in _total, and of histograms: bounds that rise, counts that
# never fall, +Inf that is _count, a _sum.
package Metrics;
use strict;
use warnings;

my $NAME = qr/[a-zA-Z_:][a-zA-Z0-9_:]*/;
my $NUMBER = qr/[+-]?(?:\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|Inf)|NaN/;
my %SUFFIX = (histogram => qr/_(?:bucket|sum|count)/);

sub parse
{
	my ($class, $text) = @_;
	my $self = bless { family => {}, order => [], value => {} }, $class;
	my $number = 0;

	die "the last line does not end\n" unless $text =~ /\n\z/;
	utf8::decode(my $copy = $text) or die "not UTF-8\n";
	for my $line (split /\n/, $text) {
		$number++;
		eval { $self->line($line); 1 } or die "line $number: $line: $@";
	}
	$self->check_histogram($_) for grep { $self->{family}{$_}{type} eq 'histogram' } @{ $self->{order} };
	return $self;
}

sub line
{
	my ($self, $line) = @_;

	return $self->help($1, $2) if $line =~ /^# HELP ($NAME) (.+)\z/;
	return $self->type($1, $2) if $line =~ /^# TYPE ($NAME) (counter|gauge|histogram)\z/;
	die "a comment that is neither HELP nor TYPE\n" if $line =~ /^#/;
	$line =~ /^($NAME)(?:\{(.*)\})? ($NUMBER)\z/ or die "no sample\n";
	return $self->sample($1, labels($2 // ''), $3);
}

sub help
{
	my ($self, $name, $help) = @_;

	die "HELP twice\n" if $self->{family}{$name};
	die "an escape that is none\n" if $help =~ /\\(?![\\n])/;
	$self->{family}{$name} = { name => $name, help => $help, samples => [] };
	push @{ $self->{order} }, $name;
	return;
}

sub type
{
	my ($self, $name, $type) = @_;
	my $family = $self->{family}{$name} or die "TYPE without HELP\n";

	die "TYPE not right behind HELP\n" if $self->{order}[-1] ne $name || $family->{type} || @{ $family->{samples} };
	die "a counter not called _total\n" if $type eq 'counter' && $name !~ /_total\z/;
	die "called _total and no counter\n" if $type ne 'counter' && $name =~ /_total\z/;
	$family->{type} = $type;
	return;
}

sub labels
{
	my ($text) = @_;
	my %label;

	while ($text =~ s/^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\["\\n])*)"(?:,(?=.)|\z)//) {
		my ($name, $value) = ($1, $2);

		die "the label $name twice\n" if exists $label{$name};
		$label{$name} = $value =~ s/\\(.)/$1 eq 'n' ? "\n" : $1/ger;
	}
	die "labels: $text\n" if $text ne '';
	return \%label;
}

sub key { my ($name, $label) = @_; return join "\0", $name, map { ($_, $label->{$_}) } sort keys %$label }

sub sample
{
	my ($self, $name, $label, $value) = @_;
	my $family = $self->{family}{ $self->{order}[-1] // '' } or die "a sample without HELP\n";
	my $wanted = $family->{name} . ($SUFFIX{ $family->{type} // die "a sample without TYPE\n" } // '');

	die "a sample of another family than $family->{name}\n" unless $name =~ /\A$wanted\z/;
	die "twice\n" if defined $self->{value}{ key($name, $label) };
	die "a counter below 0\n" if $family->{type} eq 'counter' && $value !~ /^\d/;
	$self->{value}{ key($name, $label) } = $value;
	push @{ $family->{samples} }, { name => $name, label => $label, value => $value };
	return;
}

sub check_histogram
{
	my ($self, $name) = @_;
	my %series;

	for my $s (@{ $self->{family}{$name}{samples} }) {
		my %rest = %{ $s->{label} };
		my $le = delete $rest{le};
		my $series = $series{ key('', \%rest) } //= { buckets => [] };

		if ($s->{name} =~ /_bucket\z/) {
			push @{ $series->{buckets} }, [ $le // die("$name: a bucket without le\n"), $s->{value} ];
		} else {
			die "$name: le beside a bucket\n" if defined $le;
			$series->{ $s->{name} =~ s/.*_//r } = $s->{value};
		}
	}
	for my $s (values %series) {
		my @buckets = @{ $s->{buckets} };
		my ($bound, $count) = (-1, 0);

		die "$name: no sum or count\n" unless defined $s->{sum} && defined $s->{count};
		for my $bucket (@buckets) {
			my $le = $bucket->[0] eq '+Inf' ? 9**9**9 : $bucket->[0];
			die "$name: bounds do not rise\n" unless $le > $bound;
			die "$name: counts fall\n" if $bucket->[1] < $count;
			($bound, $count) = ($le, $bucket->[1]);
		}
		die "$name: the last bucket is not +Inf\n" unless @buckets && $buckets[-1][0] eq '+Inf';
		die "$name: +Inf is not _count\n" if $count != $s->{count};
	}
	return;
}

# ---- asking --------------------------------------------------------------------------------

sub families { return @{ $_[0]{order} } }
sub type_of { my ($self, $name) = @_; return $self->{family}{$name} && $self->{family}{$name}{type} }
sub samples { my ($self, $name) = @_; return @{ ($self->{family}{$name} // { samples => [] })->{samples} } }

# Names by which samples can be asked for.
sub series
{
	my ($self) = @_;

	return map { $self->type_of($_) eq 'histogram' ? ($_ . '_bucket', $_ . '_sum', $_ . '_count') : $_ } $self->families;
}

# One value; undefined when there is none.
sub value { my ($self, $name, %label) = @_; return $self->{value}{ key($name, \%label) } }

# The words of one label that have a value other than 0: { pass => 2, reject => 1 }
sub by
{
	my ($self, $name, $word, %label) = @_;
	my %by;

	for my $s ($self->samples($name)) {
		next if grep { ($s->{label}{$_} // '') ne $label{$_} } keys %label;
		$by{ $s->{label}{$word} } += $s->{value} if $s->{value} != 0;
	}
	return \%by;
}

1;
