// What an app with Relay writes: a list to scroll through, a part to fetch anew, a change, a stream.
import { graphql } from 'react-relay';

export const page = graphql`
  query CustomersQuery($first: Int!) {
    ...Customers_list @arguments(first: $first)
    viewer {
      business {
        name
      }
    }
  }
`;

export const list = graphql`
  fragment Customers_list on Query
  @argumentDefinitions(first: { type: "Int", defaultValue: 20 }, after: { type: "String" })
  @refetchable(queryName: "CustomersListQuery") {
    customers(first: $first, after: $after) @connection(key: "Customers_customers") {
      edges {
        node {
          id
          ...Customers_one
        }
      }
      totalCount
    }
  }
`;

export const one = graphql`
  fragment Customers_one on Customer @refetchable(queryName: "CustomersOneQuery") {
    name
  }
`;

export const issue = graphql`
  mutation CustomersIssueCardMutation($input: IssueCardInput!) {
    issueCard(input: $input) {
      card {
        id
        stamps
      }
      userErrors {
        code
        field
        message
        ... on LimitReached {
          retryAt
        }
      }
    }
  }
`;

export const events = graphql`
  subscription CustomersEventsSubscription($after: String) {
    events(after: $after) {
      id
      cursor
      type
      customer {
        ...Customers_one
      }
      ... on StampAdded {
        card {
          id
          stamps
        }
      }
    }
  }
`;
